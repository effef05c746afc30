package httpretry

import (
	"iter"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// RetryAfter returns the wait that the Retry-After headers of a response ask for, and whether they ask for one.
// It is pure: received is the instant at which the response arrived.
//
// What each form means:
//
//   - 120, 0 and 1.5 are seconds. RFC 9110, section 10.2.3, has whole ones; servers send fractions too.
//     More than a [time.Duration] holds is the longest Duration.
//   - A date in one of the three forms of RFC 9110, section 5.6.7, is measured against the response's own Date header,
//     so that neither side's clock has to be right; without a Date that parses, against received.
//     A date that is not ahead of that asks for nothing.
//   - Whatever else (-1, +5, 1e3, RFC 3339, an empty value) asks for nothing.
//   - Of several values, in one header or in more, the longest is meant: a retry is never early.
//
// Nothing is rounded down.
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

// serverTime returns the instant of a response by its server's clock, or by ours if it does not tell.
func serverTime(h http.Header, received time.Time) time.Time {
	if date, err := http.ParseTime(h.Get("Date")); err == nil {
		return date
	}
	return received
}

// RateLimit returns the wait until a server's quota is filled up again, for servers that tell that rather than send a
// Retry-After, and whether h says that it is used up. It is pure, as [RetryAfter] is, and reads:
//
//   - RateLimit of the IETF draft: "default";r=0;t=30, and as older drafts have it: limit=100, remaining=0, reset=30;
//   - RateLimit-Remaining and RateLimit-Reset, and the same after X-: the reset is an epoch in milliseconds from 1e12
//     on, an epoch in seconds from 1e9 on (both against the response's Date), and seconds from now below that.
//     Without a Remaining the quota counts as used up.
//
// The longest wait is meant. What is malformed asks for nothing.
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

// A quota is what one member of a RateLimit header tells, in its own words.
type quota struct{ remaining, reset string }

// quotas reads a RateLimit header, of any draft. Names of quotas with a comma in them are not understood.
func quotas(line string) []quota {
	var all []quota
	var old quota // whose parts are members
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
// The comma within an HTTP date, after the name of its day, parts nothing.
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

// parseSeconds reads digits, with a fraction or without. What a Duration cannot hold is the longest Duration;
// a fraction finer than a nanosecond is rounded up.
func parseSeconds(s string) (time.Duration, bool) {
	whole, fraction, dotted := strings.Cut(s, ".")
	if !isDigits(whole) || dotted && !isDigits(fraction) {
		return 0, false
	}
	seconds, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || seconds > math.MaxInt64/int64(time.Second) {
		return math.MaxInt64, true // digits can only fail by being too many
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

// isDigits reports whether s is one ASCII digit or more, and nothing else.
func isDigits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}
