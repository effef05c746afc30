package httpretry

import (
	"iter"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// RetryAfter returns the wait in the Retry-After headers of a response, and whether there is one.
// It is pure: received is the instant at which the response arrived.
//
// The forms are:
//
//   - Seconds: 120, 0 and 1.5. RFC 9110, section 10.2.3, has whole seconds; servers send fractions too.
//     A value above the longest [time.Duration] means the longest Duration.
//   - A date in one of the three forms of RFC 9110, section 5.6.7, relative to the Date header of the response, so the
//     clocks of client and server may differ. Without a valid Date it is relative to received. A date in the past is no wait.
//   - All other values (-1, +5, 1e3, RFC 3339, an empty value) are no wait.
//   - Of several values, in one header or in several, the longest counts: a retry is never early.
//
// Waits are never rounded down.
func RetryAfter(h http.Header, received time.Time) (time.Duration, bool) {
	longest, found := time.Duration(0), false
	for _, line := range h["Retry-After"] {
		for value := range members(line) {
			if d, ok := parseWait(value, h, received); ok {
				longest, found = max(longest, d), true
			}
		}
	}
	return longest, found
}

// parseWait reads one value: seconds or a date.
func parseWait(value string, h http.Header, received time.Time) (time.Duration, bool) {
	if d, ok := parseSeconds(value); ok {
		return d, true
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0, false
	}
	d := at.Sub(serverTime(h, received)) // saturates
	return d, d > 0
}

// serverTime returns the time of a response by its server's Date header, or received without a valid Date.
func serverTime(h http.Header, received time.Time) time.Time {
	if date, err := http.ParseTime(h.Get("Date")); err == nil {
		return date
	}
	return received
}

// RateLimit returns the wait until a server's quota is refilled, and whether h says that the quota is used up. It is for
// servers that send no Retry-After. It is pure, as [RetryAfter] is, and reads:
//
//   - RateLimit of the IETF draft: "default";r=0;t=30, and of older drafts: limit=100, remaining=0, reset=30;
//   - RateLimit-Remaining and RateLimit-Reset, also as X-RateLimit-... and X-Rate-Limit-.... A Reset below 1e9 is a number
//     of seconds to wait. From 1e9 on it is a Unix time in seconds, from 1e12 on a Unix time in milliseconds, both relative
//     to the response's Date. Without a Remaining the quota counts as used up.
//
// The longest wait counts. Malformed values are no wait.
func RateLimit(h http.Header, received time.Time) (time.Duration, bool) {
	longest, found := time.Duration(0), false
	consider := func(remaining, reset string) {
		if d, ok := parseReset(reset, serverTime(h, received)); ok && (remaining == "0" || remaining == "") {
			longest, found = max(longest, d), true
		}
	}
	for _, line := range h.Values("RateLimit") {
		for _, q := range quotas(line) {
			if q.remaining != "" {
				consider(q.remaining, q.reset)
			}
		}
	}
	for _, prefix := range []string{"RateLimit-", "X-RateLimit-", "X-Rate-Limit-"} {
		consider(h.Get(prefix+"Remaining"), h.Get(prefix+"Reset"))
	}
	return longest, found
}

// A quota is one member of a RateLimit header, as text.
type quota struct{ remaining, reset string }

// quotas reads a RateLimit header of any draft. It does not support quota names with a comma.
func quotas(line string) []quota {
	var all []quota
	var old quota // of an older draft, whose parts are members
	for member := range strings.SplitSeq(line, ",") {
		var q quota
		for parameter := range strings.SplitSeq(member, ";") {
			switch name, value, _ := strings.Cut(strings.TrimSpace(parameter), "="); name {
			case "r":
				q.remaining = value
			case "t":
				q.reset = value
			case "remaining":
				old.remaining = value
			case "reset":
				old.reset = value
			}
		}
		all = append(all, q)
	}
	return append(all, old)
}

// parseReset reads an epoch or a delta.
func parseReset(s string, now time.Time) (time.Duration, bool) {
	whole, fraction, _ := strings.Cut(s, ".")
	d, ok := parseSeconds(s)
	n, err := strconv.ParseInt(whole, 10, 64)
	switch {
	case !ok || err != nil || n < 1e9:
		return d, ok
	case n < 1e12:
		d = time.Unix(n, 0).Add(fractionOf(fraction)).Sub(now)
	default:
		d = time.UnixMilli(n).Sub(now)
		if strings.Trim(fraction, "0") != "" {
			d += time.Millisecond
		}
	}
	return d, d > 0
}

// members yields the members of a comma-separated list, without the space around them.
// The comma in an HTTP date, after the name of the day, does not separate members.
func members(line string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for line != "" {
			end := strings.IndexByte(line, ',')
			if end >= 0 && isDayName(strings.TrimSpace(line[:end])) {
				if next := strings.IndexByte(line[end+1:], ','); next >= 0 {
					end += 1 + next
				} else {
					end = -1
				}
			}
			member := line
			line = ""
			if end >= 0 {
				member, line = member[:end], member[end+1:]
			}
			if !yield(strings.TrimSpace(member)) {
				return
			}
		}
	}
}

// isDayName reports whether s is the name of a weekday, as RFC 850 (Monday) or RFC 1123 (Mon) writes it.
func isDayName(s string) bool {
	for day := time.Sunday; day <= time.Saturday; day++ {
		if name := day.String(); s == name || s == name[:3] {
			return true
		}
	}
	return false
}

// parseSeconds reads decimal seconds, with or without a fraction. A value above the longest Duration is the longest
// Duration; a fraction finer than a nanosecond is rounded up.
func parseSeconds(s string) (time.Duration, bool) {
	whole, fraction, dotted := strings.Cut(s, ".")
	if !isDigits(whole) || dotted && !isDigits(fraction) {
		return 0, false
	}
	seconds, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || seconds > math.MaxInt64/int64(time.Second) {
		return math.MaxInt64, true // digits fail only by overflow
	}
	d := time.Duration(seconds) * time.Second
	if part := fractionOf(fraction); part <= math.MaxInt64-d {
		return d + part, true
	}
	return math.MaxInt64, true
}

// fractionOf returns the decimal fraction of a second with the given digits, rounded up to a nanosecond.
func fractionOf(digits string) time.Duration {
	fine := ""
	if len(digits) > 9 {
		digits, fine = digits[:9], digits[9:]
	}
	n, unit := time.Duration(0), time.Second
	for _, digit := range []byte(digits) {
		unit /= 10
		n += time.Duration(digit-'0') * unit
	}
	if strings.Trim(fine, "0") != "" {
		n++
	}
	return n
}

// isDigits reports whether s consists of one or more ASCII digits.
func isDigits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}
