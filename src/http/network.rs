//! The runtime. Whoever waits for an answer drives it meanwhile, so that a few small requests start no thread and wake
//! none. While bodies move, a thread of its own drives it: they go on while others hash, compress and write.

use std::future::Future;
use std::io;
use std::sync::{Arc, OnceLock};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// The runtime; kept alive by the bodies that are still being read.
pub(super) struct Network {
    runtime: Option<Arc<Runtime>>,
    /// Ends the thread when it is dropped.
    driver: OnceLock<oneshot::Sender<()>>,
}

impl Network {
    pub(super) fn new() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().thread_name("names").enable_all().build()?;
        Ok(Network { runtime: Some(Arc::new(runtime)), driver: OnceLock::new() })
    }

    /// Waits for `future` on the calling thread.
    pub(super) fn block_on<F: Future>(&self, future: F) -> F::Output {
        // What happened since somebody last waited comes first: a connection that is free again, or was closed.
        self.runtime().block_on(async {
            tokio::task::yield_now().await;
            future.await
        })
    }

    /// Begins `future`; it goes on whenever somebody waits.
    pub(super) fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.runtime().spawn(future)
    }

    /// Has everything go on from now on, even while nobody waits.
    pub(super) fn drive(&self) {
        self.driver.get_or_init(|| {
            let (sender, ended) = oneshot::channel();
            let runtime = self.runtime().clone();
            let drive = move || {
                let _ = runtime.block_on(ended);
                end(runtime);
            };
            // Without the thread it is slower, no more.
            if let Err(error) = std::thread::Builder::new().name("network".into()).spawn(drive) {
                tracing::debug!(%error, "no thread for the network");
            }
            sender
        });
    }

    fn runtime(&self) -> &Arc<Runtime> {
        self.runtime.as_ref().expect("taken only on drop")
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.driver.take();
        if let Some(runtime) = self.runtime.take() {
            end(runtime);
        }
    }
}

/// Ends the runtime with its last user. A resolver that hangs must not hold up the end of the process.
fn end(runtime: Arc<Runtime>) {
    if let Some(runtime) = Arc::into_inner(runtime) {
        runtime.shutdown_background();
    }
}
