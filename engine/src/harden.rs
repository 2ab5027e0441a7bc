//! What keeps plaintext out of swap and core dumps.

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Makes the process undumpable: no core dumps, no reading of its memory by other processes of the same user.
pub fn forbid_dumps() -> std::io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}

/// Whether the kernel could write this process's memory to a swap device: one is active, and the control group does not
/// forbid it.
pub fn memory_can_be_swapped() -> bool {
    let swaps = std::fs::read_to_string("/proc/swaps").unwrap_or_default();
    let forbidden = ["/sys/fs/cgroup/memory.swap.max", "/sys/fs/cgroup/memory/memory.swappiness"]
        .iter()
        .any(|file| std::fs::read_to_string(file).is_ok_and(|value| value.trim() == "0"));
    swaps.lines().count() > 1 && !forbidden
}
