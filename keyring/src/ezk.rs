//! Locked memory for encryption zone keys: the one module with `unsafe` code.
//!
//! # Safety argument
//! An [`EzkBytes`] owns exactly one anonymous private mapping of `MAPPING_LEN` bytes, made by its constructor and
//! unmapped by its `Drop`. The pointer is never handed out, only borrowed slices of the first 32 bytes whose lifetime
//! is tied to `&self`, so nothing can outlive the mapping. The mapping is readable and writable and zero-filled by the
//! kernel, so those bytes are always initialised `u8`s. It is written only while the constructor has the only
//! reference, and in `Drop`. After construction it is never written through a shared reference, hence `Send + Sync`.
#![allow(unsafe_code)]

use std::fmt;
use std::ptr::NonNull;

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mlock, mmap_anonymous, munlock, munmap};
use zeroize::Zeroize;

/// Length of an encryption zone key.
pub(crate) const EZK_LEN: usize = 32;

/// One page: the kernel locks and excludes whole pages, and a key must not share one with other data.
const MAPPING_LEN: usize = 4096;

/// The kernel refused memory in which a key may live.
#[derive(Debug, thiserror::Error)]
pub enum EzkMemoryError {
    /// The bytes handed in are not a 256-bit key.
    #[error("an encryption zone key has {EZK_LEN} bytes, not {0}")]
    Length(usize),
    /// Mapping, locking or marking the page failed.
    #[error("the kernel refused locked memory for a key ({0}); raise the limit on locked memory (RLIMIT_MEMLOCK)")]
    Kernel(#[source] rustix::io::Errno),
}

/// An encryption zone key in a page that is never swapped, never dumped, not inherited by a fork, and zeroised when
/// dropped.
pub struct EzkBytes {
    page: NonNull<u8>,
}

// SAFETY: see the module's safety argument: an owned mapping without interior mutability.
unsafe impl Send for EzkBytes {}
// SAFETY: as above.
unsafe impl Sync for EzkBytes {}

impl EzkBytes {
    /// Moves a key into locked memory and zeroises `source`, also when it fails.
    pub fn take(source: &mut [u8]) -> Result<Self, EzkMemoryError> {
        let taken = Self::copy(source);
        source.zeroize();
        taken
    }

    fn copy(source: &[u8]) -> Result<Self, EzkMemoryError> {
        if source.len() != EZK_LEN {
            return Err(EzkMemoryError::Length(source.len()));
        }
        let mut key = Self::map().map_err(EzkMemoryError::Kernel)?;
        key.bytes_mut().copy_from_slice(source);
        Ok(key)
    }

    fn map() -> rustix::io::Result<Self> {
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice overlaps nothing.
        let address = unsafe {
            mmap_anonymous(std::ptr::null_mut(), MAPPING_LEN, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)?
        };
        let Some(page) = NonNull::new(address.cast::<u8>()) else {
            return Err(rustix::io::Errno::NOMEM);
        };
        // From here on `Drop` unmaps the page, whatever fails below.
        let key = Self { page };
        // SAFETY: the range is exactly the mapping that `key` owns.
        unsafe {
            mlock(address, MAPPING_LEN)?;
            madvise(address, MAPPING_LEN, Advice::LinuxDontDump)?;
            madvise(address, MAPPING_LEN, Advice::LinuxWipeOnFork)?;
        }
        Ok(key)
    }

    /// The key, for the cipher's eyes only.
    pub(crate) fn expose(&self) -> &[u8] {
        // SAFETY: the first EZK_LEN bytes of the owned mapping, initialised, not written while `&self` lives.
        unsafe { std::slice::from_raw_parts(self.page.as_ptr(), EZK_LEN) }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `expose`, and `&mut self` excludes every other access.
        unsafe { std::slice::from_raw_parts_mut(self.page.as_ptr(), EZK_LEN) }
    }
}

impl Drop for EzkBytes {
    fn drop(&mut self) {
        self.bytes_mut().zeroize();
        let address = self.page.as_ptr().cast();
        // SAFETY: the range is exactly the mapping that `self` owns; nothing refers to it any more. Errors can only
        // mean that there is nothing left to unlock or unmap.
        unsafe {
            let _ = munlock(address, MAPPING_LEN);
            let _ = munmap(address, MAPPING_LEN);
        }
    }
}

impl fmt::Debug for EzkBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EzkBytes(secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_moves_into_its_page_and_leaves_no_copy() {
        let mut source = [7; EZK_LEN];
        let key = EzkBytes::take(&mut source).unwrap();
        assert_eq!(key.expose(), &[7; EZK_LEN]);
        assert_eq!(source, [0; EZK_LEN]);
    }

    #[test]
    fn a_key_of_the_wrong_length_is_refused_and_zeroised() {
        let mut source = vec![7; 31];
        assert!(matches!(EzkBytes::take(&mut source), Err(EzkMemoryError::Length(31))));
        assert!(source.iter().all(|b| *b == 0));
    }

    #[test]
    fn debug_shows_no_key() {
        let key = EzkBytes::take(&mut [0x41; EZK_LEN]).unwrap();
        assert_eq!(format!("{key:?}"), "EzkBytes(secret)");
    }

    #[test]
    fn the_page_is_locked_and_left_out_of_dumps() {
        let key = EzkBytes::take(&mut [0x42; EZK_LEN]).unwrap();
        let address = format!("{:x}-", key.page.as_ptr() as usize);
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let flags = maps
            .split('\n')
            .skip_while(|line| !line.starts_with(&address))
            .find_map(|line| line.strip_prefix("VmFlags:"));
        // Neighbouring pages can be merged into one mapping that starts elsewhere; then this test has nothing to read.
        if let Some(flags) = flags {
            for flag in [" lo", " dd", " wf"] {
                assert!(flags.contains(flag), "{flag} missing in{flags}");
            }
        }
    }
}
