//! Ctrl-C and SIGTERM: the first one ends the command soon and cleanly, the second one at once.
//!
//! Whatever is stopped, nothing that was saved is lost; what is different is how much the next run has to do again. What must
//! not come in: anything that does more than set a flag.

use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};

static STOP: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// The flag that says that somebody wants the command to end.
pub fn flag() -> Arc<AtomicBool> {
    STOP.clone()
}

/// True once somebody wants the command to end.
pub fn is_wanted() -> bool {
    STOP.load(Ordering::Relaxed)
}

/// From here on signals set the flag, and end the process only if they come again. Once is enough: a second registration would
/// find the flag set by the first one, and take the first signal for the second.
pub fn watch() -> std::io::Result<()> {
    static IS_WATCHED: AtomicBool = AtomicBool::new(false);
    if IS_WATCHED.swap(true, Ordering::Relaxed) {
        return Ok(());
    }
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // The order matters: the first signal finds the flag unset, and sets it; the second finds it set.
        signal_hook::flag::register_conditional_default(signal, flag())?;
        signal_hook::flag::register(signal, flag())?;
    }
    Ok(())
}
