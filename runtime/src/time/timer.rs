//! Timers and tickers that send the time on a channel.
//!
//! Timer, armed entry and receivers share a core. Its lock makes "the timer fires" (take the armed id, send) and "the timer
//! is stopped" (take the armed id, take the unreceived value) exclude each other, so after a stop or a reset no value of
//! before is received. An entry of an id that is not the core's any more does nothing.

use std::{
    fmt,
    num::NonZero,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::timers::{Action, Alarm, TimerId, Timers};
use crate::{sync::Chan, sys::clock};

struct Core {
    home: Arc<Timers>,
    chan: Chan<Instant>,
    /// Guards the arming, and orders it with sends to and drains of the channel. Taken before a wheel's lock and before the
    /// channel's.
    state: Mutex<State>,
}

struct State {
    armed: Option<TimerId>,
    /// Nanoseconds between ticks; nothing for a timer that fires once.
    period: Option<NonZero<u64>>,
}

impl Core {
    #[track_caller]
    fn new(after: Duration, period: Option<NonZero<u64>>) -> Arc<Self> {
        let core = Arc::new(Self {
            home: Timers::current(),
            chan: Chan::with_capacity(1),
            state: Mutex::new(State { armed: None, period }),
        });
        core.arm(&mut core.state.lock(), clock::after(after));
        core
    }

    fn arm(self: &Arc<Self>, state: &mut State, deadline: u64) {
        // A runtime that has shut down arms no timers; the action holds nothing but the core.
        state.armed = self.home.arm(deadline, Action::Fire(self.clone())).ok();
    }

    /// Disarms and takes an unreceived value back. Whether there was anything to stop.
    fn disarm(&self, state: &mut State) -> bool {
        let armed = state.armed.take();
        if let Some(id) = armed {
            // What it gives back is a reference to this core, which the caller has as well.
            drop(self.home.disarm(id));
        }
        let unreceived = self.chan.try_recv().is_ok();
        armed.is_some() || unreceived
    }

    fn stop(&self) -> bool {
        self.disarm(&mut self.state.lock())
    }
}

impl Alarm for Core {
    fn fire(self: Arc<Self>, id: TimerId, deadline: u64) {
        let mut state = self.state.lock();
        if state.armed != Some(id) {
            return;
        }
        state.armed = None;
        // Full: a slow receiver misses ticks. Closed: the user has closed it.
        let _ = self.chan.try_send(Instant::now());
        if let Some(period) = state.period {
            let missed = clock::now().saturating_sub(deadline) / period;
            let next = deadline.saturating_add((missed + 1).saturating_mul(period.get()));
            self.arm(&mut state, next);
        }
    }
}

/// Sends the time on a channel, once, after a duration.
///
/// The channel has room for one value, so a timer fires whether or not somebody receives. Dropping the timer does not stop
/// it: a clone of its channel still gets the value. Until it fires it keeps its channel alive; afterwards, or when it has
/// been stopped, only handles do.
///
/// ```
/// use std::time::Duration;
/// use greenprof_runtime::time::Timer;
///
/// let timer = Timer::new(Duration::from_secs(3600));
/// assert!(timer.stop(), "it was armed");
/// assert!(!timer.reset(Duration::from_millis(1)), "it was not armed");
/// timer.chan().recv().expect("nobody closes the channel");
/// ```
pub struct Timer {
    core: Arc<Core>,
}

impl Timer {
    /// A timer that fires `duration` from now.
    ///
    /// # Panics
    /// If the system has no thread for timers.
    #[track_caller]
    pub fn new(duration: Duration) -> Self {
        Self { core: Core::new(duration, None) }
    }

    /// Where the time is sent when the timer fires. Receive from it only: what others send, a stop would take.
    pub fn chan(&self) -> &Chan<Instant> {
        &self.core.chan
    }

    /// Stops the timer: after this returns nothing is received from its channel until it is reset. Returns `true` if
    /// this prevented a value from being received: the timer was armed, or it had fired and nobody had received the
    /// value. `false` when it was stopped before or its value has been received; waiting for the value then would be
    /// for ever.
    ///
    /// ```
    /// use std::time::Duration;
    /// use greenprof_runtime::time::Timer;
    ///
    /// let timer = Timer::new(Duration::from_secs(3600));
    /// assert!(timer.stop(), "no value will come");
    /// assert!(!timer.stop(), "it was stopped before");
    /// ```
    pub fn stop(&self) -> bool {
        self.core.stop()
    }

    /// Makes the timer fire `duration` from now, and not when it would have. A value that was not received is taken back,
    /// so the next one is of this setting. Returns what [`Timer::stop`] would have.
    ///
    /// ```
    /// use std::time::Duration;
    /// use greenprof_runtime::time::Timer;
    ///
    /// let timer = Timer::new(Duration::from_secs(3600));
    /// assert!(timer.reset(Duration::from_millis(1)), "it was armed");
    /// assert!(timer.chan().recv().is_some(), "by the new setting");
    /// ```
    pub fn reset(&self, duration: Duration) -> bool {
        let mut state = self.core.state.lock();
        let stopped = self.core.disarm(&mut state);
        self.core.arm(&mut state, clock::after(duration));
        stopped
    }
}

impl fmt::Debug for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timer").field("armed", &self.core.state.lock().armed.is_some()).finish_non_exhaustive()
    }
}

/// A channel on which the time is sent once, after `duration`. [`Timer`] is the same with the possibility to stop it.
///
/// ```
/// use std::time::Duration;
/// use greenprof_runtime::{select, sync::Chan, time};
///
/// let answers = Chan::<u32>::new();
/// let limit = time::after(Duration::from_millis(1));
/// let answer = select! {
///     recv(answers) -> answer => answer,
///     recv(limit) -> _ => None, // nobody has answered
/// };
/// assert_eq!(answer, None);
/// ```
///
/// # Panics
/// If the system has no thread for timers.
#[track_caller]
pub fn after(duration: Duration) -> Chan<Instant> {
    Core::new(duration, None).chan.clone()
}

/// Sends the time on a channel again and again, until it is stopped or dropped.
///
/// The channel has room for one value: a slow receiver misses ticks, and does not get those it has missed one after the
/// other. Ticks stay at multiples of the period from the start.
///
/// ```
/// use std::time::{Duration, Instant};
/// use greenprof_runtime::time::Ticker;
///
/// let began = Instant::now();
/// let ticker = Ticker::new(Duration::from_millis(1));
/// assert_eq!(ticker.chan().iter().take(3).count(), 3);
/// assert!(began.elapsed() >= Duration::from_millis(3));
/// ticker.stop();
/// assert!(ticker.chan().try_recv().is_err());
/// ```
pub struct Ticker {
    core: Arc<Core>,
}

impl Ticker {
    /// A ticker whose first tick is a period from now.
    ///
    /// # Panics
    /// If the period is zero, or the system has no thread for timers.
    #[track_caller]
    pub fn new(period: Duration) -> Self {
        Self { core: Core::new(period, Some(nanoseconds(period))) }
    }

    /// Where the ticks are sent. Receive from it only.
    pub fn chan(&self) -> &Chan<Instant> {
        &self.core.chan
    }

    /// No tick is received after this returns, until the ticker is reset. The channel stays open: who receives from it
    /// waits.
    pub fn stop(&self) {
        self.core.stop();
    }

    /// Ticks with another period, the first of which begins now. A tick that was not received is taken back.
    ///
    /// ```
    /// use std::time::Duration;
    /// use greenprof_runtime::time::Ticker;
    ///
    /// let ticker = Ticker::new(Duration::from_secs(3600));
    /// ticker.reset(Duration::from_millis(1));
    /// assert_eq!(ticker.chan().iter().take(2).count(), 2);
    /// ```
    ///
    /// # Panics
    /// If the period is zero.
    #[track_caller]
    pub fn reset(&self, period: Duration) {
        let period = nanoseconds(period);
        let mut state = self.core.state.lock();
        self.core.disarm(&mut state);
        state.period = Some(period);
        self.core.arm(&mut state, clock::now().saturating_add(period.get()));
    }
}

/// Of a period.
#[track_caller]
fn nanoseconds(period: Duration) -> NonZero<u64> {
    let nanoseconds = u64::try_from(period.as_nanos()).unwrap_or(u64::MAX);
    NonZero::new(nanoseconds).expect("a ticker's period must be longer than zero")
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.core.stop();
    }
}

impl fmt::Debug for Ticker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.core.state.lock();
        let (armed, period) = (state.armed.is_some(), state.period.map(|period| Duration::from_nanos(period.get())));
        drop(state);
        f.debug_struct("Ticker").field("armed", &armed).field("period", &period).finish_non_exhaustive()
    }
}
