//! Errors as people read them.

/// An error with its causes, on one line.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        let api =
            error.downcast_ref::<kube::Error>().or_else(|| error.downcast_ref::<Box<kube::Error>>().map(|e| &**e));
        if let Some(kube::Error::Api(status)) = api {
            // Its own text says everything twice, the second time as a dump.
            text.push_str(&status.message);
            break;
        }
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
