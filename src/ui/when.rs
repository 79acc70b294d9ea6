//! How long ago something was, in Docker's words (docker/go-units, `HumanDuration`).

use std::time::{Duration, SystemTime};

/// `2 weeks ago`, for a time in RFC 3339; `N/A` where it is none.
pub fn since(time: &str, now: SystemTime) -> String {
    match humantime::parse_rfc3339_weak(time.trim()) {
        Ok(then) => format!("{} ago", words(now.duration_since(then).unwrap_or_default())),
        Err(_) => "N/A".to_string(),
    }
}

fn words(length: Duration) -> String {
    let seconds = length.as_secs();
    let minutes = seconds / 60;
    let hours = (length.as_secs_f64() / 3600.0).round() as u64;
    match (seconds, minutes, hours) {
        (0, ..) => "Less than a second".to_string(),
        (1, ..) => "1 second".to_string(),
        (..60, ..) => format!("{seconds} seconds"),
        (_, 1, _) => "About a minute".to_string(),
        (_, ..60, _) => format!("{minutes} minutes"),
        (.., 1) => "About an hour".to_string(),
        (.., ..48) => format!("{hours} hours"),
        (.., ..336) => format!("{} days", hours / 24),
        (.., ..1440) => format!("{} weeks", hours / 24 / 7),
        (.., ..17520) => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_docker_says() {
        let table = [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (3599, "59 minutes"),
            (3600, "About an hour"),
            (3600 * 47, "47 hours"),
            (3600 * 48, "2 days"),
            (3600 * 24 * 14, "2 weeks"),
            (3600 * 24 * 60, "2 months"),
            (3600 * 24 * 365 * 2, "2 years"),
        ];
        for (seconds, expected) in table {
            assert_eq!(words(Duration::from_secs(seconds)), expected, "{seconds}");
        }
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(90);
        assert_eq!(since("1970-01-01T00:00:00Z", now), "About a minute ago");
        assert_eq!(since("1970-01-01T00:01:29.5Z", now), "Less than a second ago");
        assert_eq!(since("", now), "N/A");
    }
}
