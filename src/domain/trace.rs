//! W3C Trace Context (<https://www.w3.org/TR/trace-context/>): the trace of an event comes from its caller or from its id.
//!
//! The span id of an event's acceptance is the last 8 bytes of the event id. The span id of an attempt is the last 8 bytes of
//! the delivery id. So every process can compute the span ids, and nothing is stored for an event without a caller's trace.

use std::fmt::{self, Write as _};
use std::num::{NonZeroU64, NonZeroU128};
use std::sync::Arc;

use super::ids::{DeliveryId, EventId};

/// The flags that the service propagates: the flag `sampled`, and the flag `random` of Trace Context level 2.
const KNOWN_FLAGS: u8 = 0b11;
const SAMPLED: u8 = 0b01;
/// Length of the stored id and flags. The state is stored after the flags.
const STORED_BYTES: usize = 17;
/// Length of `traceparent`.
const TRACEPARENT_BYTES: usize = 55;
/// Maximum length of a propagated state (`tracestate`), as in the specification.
pub const MAX_STATE_BYTES: usize = 512;
const MAX_STATE_MEMBERS: usize = 32;

/// A trace: 32 hexadecimal digits, not all zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId(NonZeroU128);

/// A span: 16 hexadecimal digits, not all zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId(NonZeroU64);

/// A trace with its propagated flags and state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    id: TraceId,
    flags: u8,
    /// The data that tracing systems add (`tracestate`).
    state: Option<Arc<str>>,
}

/// The trace and the span of a request's caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallerSpan {
    pub trace: Trace,
    pub span: SpanId,
}

impl TraceId {
    /// Wraps an id; `None` if it is zero.
    pub fn new(id: u128) -> Option<Self> {
        NonZeroU128::new(id).map(Self)
    }

    pub fn to_bytes(self) -> [u8; 16] {
        self.0.get().to_be_bytes()
    }

    /// The low 56 bits of the id, which are random. If the trace id is an event's id, the last 16 bits are zero.
    pub fn random_bits(self) -> u64 {
        let (_, end) = uuid::Uuid::from_u128(self.0.get()).as_u64_pair();
        end & (u64::MAX >> 8)
    }
}

impl SpanId {
    /// Wraps an id; `None` if it is zero.
    pub fn new(id: u64) -> Option<Self> {
        NonZeroU64::new(id).map(Self)
    }

    /// The span of the acceptance of an event.
    pub fn of_acceptance(event: EventId) -> Self {
        Self::end_of(event.uuid())
    }

    /// The span of the attempt of a delivery.
    pub fn of_attempt(delivery: DeliveryId) -> Self {
        Self::end_of(delivery.uuid())
    }

    fn end_of(id: uuid::Uuid) -> Self {
        Self(NonZeroU64::new(id.as_u64_pair().1).unwrap_or(NonZeroU64::MIN))
    }

    pub fn to_bytes(self) -> [u8; 8] {
        self.0.get().to_be_bytes()
    }
}

impl Trace {
    /// The trace of an event whose caller sent no trace. The id of this trace is the event's id. It is marked as sampled, because
    /// the event is recorded.
    pub fn of_event(event: EventId) -> Self {
        let id = TraceId(NonZeroU128::new(event.uuid().as_u128()).unwrap_or(NonZeroU128::MIN));
        Self { id, flags: SAMPLED, state: None }
    }

    /// Starts a trace with this random id.
    pub fn started(id: TraceId) -> Self {
        Self { id, flags: SAMPLED, state: None }
    }

    pub fn id(&self) -> TraceId {
        self.id
    }

    /// True if the spans of the trace are recorded.
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    pub fn set_sampled(&mut self, sampled: bool) {
        self.flags = self.flags & !SAMPLED | u8::from(sampled);
    }

    /// The header `tracestate`.
    pub fn state(&self) -> Option<&str> {
        self.state.as_deref()
    }

    /// The header `traceparent` for requests within the span.
    pub fn traceparent(&self, span: SpanId) -> String {
        let mut text = String::with_capacity(TRACEPARENT_BYTES);
        // Writing to a string cannot fail.
        write!(text, "00-{}-{span}-{:02x}", self.id, self.flags).ok();
        text
    }

    /// The stored form: the id, then the flags, then the state.
    pub fn to_bytes(&self) -> Vec<u8> {
        let state = self.state.as_deref().unwrap_or_default();
        let mut bytes = Vec::with_capacity(STORED_BYTES + state.len());
        bytes.extend(self.id.to_bytes());
        bytes.push(self.flags);
        bytes.extend(state.as_bytes());
        bytes
    }

    /// Parses the stored form of a trace; `None` for other bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (id, rest) = bytes.split_first_chunk::<16>()?;
        let (flags, state) = rest.split_first()?;
        let state = std::str::from_utf8(state).ok().filter(|state| !state.is_empty());
        Some(Self { id: TraceId::new(u128::from_be_bytes(*id))?, flags: *flags, state: state.map(Arc::from) })
    }
}

impl CallerSpan {
    /// Parses the headers of a request; `None` if the headers contain no valid trace, and a new trace must start.
    /// Drops a state (`tracestate`) that is malformed or too long.
    pub fn parse(traceparent: &str, tracestate: Option<&str>) -> Option<Self> {
        let (version, rest) = traceparent.split_at_checked(2)?;
        let version = u8::try_from(lower_hex(version)?).ok()?;
        let (fields, more) = rest.split_at_checked(53)?;
        // Later versions of the header may append fields.
        let is_whole = if version == 0 { more.is_empty() } else { more.is_empty() || more.starts_with('-') };
        let mut fields = fields.strip_prefix('-')?.split('-');
        let (id, span, flags) = (fields.next()?, fields.next()?, fields.next()?);
        let has_lengths = (id.len(), span.len(), flags.len()) == (32, 16, 2) && fields.next().is_none();
        if version == u8::MAX || !is_whole || !has_lengths {
            return None;
        }
        let id = TraceId::new(lower_hex(id)?)?;
        let span = SpanId::new(u64::try_from(lower_hex(span)?).ok()?)?;
        let flags = u8::try_from(lower_hex(flags)?).ok()? & KNOWN_FLAGS;
        Some(Self { trace: Trace { id, flags, state: tracestate.and_then(state) }, span })
    }
}

fn lower_hex(digits: &str) -> Option<u128> {
    let is_lower_hex = |digit: u8| matches!(digit, b'0'..=b'9' | b'a'..=b'f');
    if digits.bytes().all(is_lower_hex) { u128::from_str_radix(digits, 16).ok() } else { None }
}

fn state(text: &str) -> Option<Arc<str>> {
    let members: Vec<&str> =
        text.split(',').map(|member| member.trim_matches([' ', '\t'])).filter(|member| !member.is_empty()).collect();
    let state = members.join(",");
    let is_good = (1..=MAX_STATE_BYTES).contains(&state.len()) && members.len() <= MAX_STATE_MEMBERS;
    (is_good && members.into_iter().all(is_member)).then(|| state.into())
}

/// True for a pair `key=value` with the characters that the specification allows.
fn is_member(member: &str) -> bool {
    let is_key = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-*/@".contains(&byte);
    let is_value = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b'=';
    member.split_once('=').is_some_and(|(key, value)| {
        !key.is_empty() && key.bytes().all(is_key) && !value.is_empty() && value.bytes().all(is_value)
    })
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_callers_trace_is_propagated_with_a_new_span() {
        let caller = CallerSpan::parse(PARENT, Some("rojo=00f067aa0ba902b7 , congo=t61rcWkgMzE,")).unwrap();
        assert_eq!(caller.span.to_string(), "b7ad6b7169203331");
        assert!(caller.trace.is_sampled());
        let event = EventId::from_uuid(Uuid::from_u128(0x019b_76da_a07b_7000_8abc_0000_0000_0000));
        let (accepted, attempted) = (SpanId::of_acceptance(event), SpanId::of_attempt(event.delivery(1)));
        assert_eq!(
            (accepted.to_string(), attempted.to_string()),
            ("8abc000000000000".into(), "8abc000000000001".into())
        );
        let sent = caller.trace.traceparent(attempted);
        assert_eq!(sent, "00-0af7651916cd43dd8448eb211c80319c-8abc000000000001-01");
        assert_eq!(caller.trace.state(), Some("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"));
        assert_eq!(
            Trace::of_event(event).traceparent(attempted),
            "00-019b76daa07b70008abc000000000000-8abc000000000001-01"
        );
    }

    #[test]
    fn a_stored_trace_round_trips() {
        for state in [None, Some("a=b")] {
            let trace = CallerSpan::parse(&PARENT.replace("-01", "-02"), state).unwrap().trace;
            assert!(!trace.is_sampled());
            assert_eq!(Trace::from_bytes(&trace.to_bytes()), Some(trace));
        }
        assert_eq!(Trace::from_bytes(&[0; 17]), None);
        assert_eq!(Trace::from_bytes(&[1; 16]), None);
    }

    #[test]
    fn only_known_flags_are_propagated() {
        let caller = CallerSpan::parse(&PARENT.replace("-01", "-ff"), None).unwrap();
        assert!(caller.trace.traceparent(caller.span).ends_with("-03"));
        let mut trace = caller.trace;
        trace.set_sampled(false);
        assert!(!trace.is_sampled() && trace.traceparent(caller.span).ends_with("-02"));
    }

    #[test]
    fn accepts_additional_fields_of_later_versions() {
        for good in [PARENT.replacen("00", "01", 1), format!("{}-more", PARENT.replacen("00", "fe", 1))] {
            assert!(CallerSpan::parse(&good, None).is_some(), "{good}");
        }
    }

    #[test]
    fn invalid_headers_start_a_new_trace() {
        for wrong in [
            String::new(),
            "00".to_owned(),
            PARENT.replacen("00", "ff", 1),
            PARENT.to_uppercase(),
            format!("{PARENT}-more"),
            PARENT.replacen("00", "01", 1) + "more",
            PARENT.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            PARENT.replace("b7ad6b7169203331", &"0".repeat(16)),
            PARENT.replace('-', "_"),
            PARENT.replace("-01", "-0g"),
            PARENT.replace("-01", "-+1"),
            PARENT.replace("9c-b7", "-9cb7"),
            PARENT.replace("0af", "é"),
        ] {
            assert_eq!(CallerSpan::parse(&wrong, None), None, "{wrong}");
        }
    }

    #[test]
    fn a_malformed_state_is_dropped() {
        let of = |state: &str| CallerSpan::parse(PARENT, Some(state)).unwrap().trace.state().map(str::to_owned);
        assert_eq!(of("t@v=a b,c=1").as_deref(), Some("t@v=a b,c=1"));
        for wrong in
            ["", ",", "a", "a=", "=b", "A=b", "a=b=c", "a=b\u{e9}", "a=b\nc", &format!("a={}", "x".repeat(511))]
        {
            assert_eq!(of(wrong), None, "{wrong}");
        }
        assert_eq!(of(&vec!["a=b"; 33].join(",")), None);
    }
}
