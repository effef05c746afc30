package endpoint

import (
	"fmt"
	"maps"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// modTimeKey is the name of the metadata that has the modification time of the file that an object was, in seconds since 1970
// with up to nine decimal places, as of rclone.
const modTimeKey = "mtime"

// withModTime returns metadata with a modification time, unless it has one or the time is before 1970.
func withModTime(metadata map[string]string, t time.Time) map[string]string {
	if _, has := metadata[modTimeKey]; has || t.Unix() < 0 {
		return metadata
	}
	text := strconv.FormatInt(t.Unix(), 10)
	if t.Nanosecond() > 0 {
		text = strings.TrimRight(fmt.Sprintf("%s.%09d", text, t.Nanosecond()), "0")
	}
	metadata = maps.Clone(metadata)
	if metadata == nil {
		metadata = make(map[string]string)
	}
	metadata[modTimeKey] = text
	return metadata
}

// modTimeText is what modTime parses: up to the year 5138.
var modTimeText = regexp.MustCompile(`^(\d{1,11})(?:\.(\d{1,9})\d*)?$`)

// modTime returns the modification time in metadata, or the zero Time.
func modTime(metadata map[string]string) time.Time {
	parts := modTimeText.FindStringSubmatch(metadata[modTimeKey])
	if parts == nil {
		return time.Time{}
	}
	seconds, _ := strconv.ParseInt(parts[1], 10, 64)                                    // digits
	nanoseconds, _ := strconv.ParseInt((parts[2] + strings.Repeat("0", 9))[:9], 10, 64) // digits
	return time.Unix(seconds, nanoseconds)
}

// SameTime reports whether two modification times agree, to the precision of the coarser one: seconds, or decimal places of
// seconds in steps of the systems' clocks. A zero Time agrees with none.
func SameTime(a, b time.Time) bool {
	if a.IsZero() || b.IsZero() {
		return false
	}
	unit := max(precision(a), precision(b))
	return a.Truncate(unit).Equal(b.Truncate(unit))
}

// precision returns the coarsest unit of which t is a multiple.
func precision(t time.Time) time.Duration {
	for _, unit := range []time.Duration{time.Second, time.Millisecond, time.Microsecond, 100 * time.Nanosecond} {
		if time.Duration(t.Nanosecond())%unit == 0 {
			return unit
		}
	}
	return time.Nanosecond
}
