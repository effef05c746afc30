package report

import (
	"fmt"
	"strings"
	"time"
)

// Instant returns an instant for people: the local time with its zone, and how far it is from
// now, such as "15:04:05 CET, in 28 s". It has the date if that is 12 hours or more.
func Instant(at, now time.Time) string {
	layout, away := "15:04:05 MST", at.Sub(now).Round(time.Second)
	if away.Abs() >= 12*time.Hour {
		layout = "2006-01-02 " + layout
	}
	text := at.Local().Format(layout)
	switch {
	case away > 0:
		return text + ", in " + Span(away)
	case away < 0:
		return text + ", " + Span(-away) + " ago"
	}
	return text + ", now"
}

// Local returns text with the given instants, which errors have after " at " in RFC 3339's
// format, as [Instant] returns them. Other instants, as in the name of a file, are kept.
func Local(text string, now time.Time, instants ...time.Time) string {
	for _, at := range instants {
		if !at.IsZero() {
			text = strings.ReplaceAll(text, " at "+at.Format(time.RFC3339), " at "+Instant(at, now))
		}
	}
	return text
}

// Span returns a duration for people, in its two largest units: "28 s", "2 min", "3 h 5 min".
func Span(d time.Duration) string {
	d = max(0, d).Round(time.Second)
	large, small, names := time.Minute, time.Second, [2]string{"min", "s"}
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	case d >= 24*time.Hour:
		large, small, names = 24*time.Hour, time.Hour, [2]string{"d", "h"}
	case d >= time.Hour:
		large, small, names = time.Hour, time.Minute, [2]string{"h", "min"}
	}
	d = d.Round(small)
	text := fmt.Sprintf("%d %s", d/large, names[0])
	if rest := d % large / small; rest > 0 {
		text += fmt.Sprintf(" %d %s", rest, names[1])
	}
	return text
}

// Took returns how long something took, for people: "0.02 s", "12.3 s", or as [Span].
func Took(d time.Duration) string {
	switch {
	case d < 10*time.Second:
		return fmt.Sprintf("%.2f s", d.Seconds())
	case d < 2*time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return Span(d)
}

// Bytes returns a number of bytes for people: "88 bytes", "29.8 MiB".
func Bytes(n int64) string {
	switch {
	case n == 1:
		return "1 byte"
	case n < 1024:
		return fmt.Sprintf("%d bytes", n)
	}
	v, unit := float64(n)/1024, 0
	for ; v >= 1023.5; unit++ {
		v /= 1024
	}
	digits := 1
	if v >= 99.95 {
		digits = 0
	}
	return fmt.Sprintf("%.*f %ciB", digits, v, "KMGTPE"[unit])
}

// Rate returns the bytes per second of n bytes in d: "29.8 MiB/s".
func Rate(n int64, d time.Duration) string {
	return Bytes(int64(float64(n)/max(d, time.Microsecond).Seconds())) + "/s"
}

// Count returns a number with its noun, one or many: "1 retry", "2 retries".
func Count[N int | int64](n N, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprint(n, " ", many)
}
