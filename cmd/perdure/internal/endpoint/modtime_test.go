package endpoint

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/testseed"
)

// The metadata is that of rclone. What other programs write is read, and anything else is no time.
func TestModTimeText(t *testing.T) {
	for text, want := range map[string]time.Time{
		"1704164645.123456789": time.Unix(1704164645, 123456789), "1704164645": time.Unix(1704164645, 0), "1704164645.5": time.Unix(1704164645, 5e8),
		"1704164645.1234567891": time.Unix(1704164645, 123456789), "0": time.Unix(0, 0),
		"": {}, "-1": {}, "1e9": {}, "1704164645.": {}, ".5": {}, "2024-01-02T03:04:05Z": {}, "123456789012": {}, " 1": {}, "1\n": {},
	} {
		if got := modTime(map[string]string{"mtime": text}); !got.Equal(want) {
			t.Errorf("%q is %v, want %v", text, got, want)
		}
	}
	r := rand.New(rand.NewPCG(testseed.Of(t, 1), 1))
	for range 1000 {
		want := time.Unix(r.Int64N(99999999999), r.Int64N(1e9))
		metadata := withModTime(map[string]string{"owner": "a"}, want)
		if got := modTime(metadata); !got.Equal(want) || metadata["owner"] != "a" {
			t.Fatalf("%v comes back as %v (%q)", want, got, metadata)
		}
	}
	if got := withModTime(nil, time.Unix(5, 250_000_000))["mtime"]; got != "5.25" {
		t.Errorf("%q", got)
	}
	if got := withModTime(map[string]string{"mtime": "7"}, time.Unix(5, 0))["mtime"]; got != "7" {
		t.Errorf("metadata of the user is replaced by %q", got)
	}
	if got := withModTime(nil, time.Unix(-5, 0)); got != nil {
		t.Errorf("before 1970: %q", got)
	}
}

// Times agree to the precision of the coarser one.
func TestSameTime(t *testing.T) {
	at := func(ns int64) time.Time { return time.Unix(100, ns) }
	for _, row := range []struct {
		a, b time.Time
		want bool
	}{
		{at(123456789), at(123456789), true},
		{at(123456789), at(123456788), false},
		{at(123456789), at(123456700), true}, // a file system with steps of 100 ns
		{at(123456789), at(123456000), true},
		{at(123456789), at(123000000), true},
		{at(123456789), at(0), true}, // seconds
		{at(123456789), at(124000000), false},
		{at(123456789), at(1e9), false},
		{at(0), at(1e9), false},
		{at(0), time.Time{}, false},
		{time.Time{}, time.Time{}, false},
	} {
		if got := SameTime(row.a, row.b); got != row.want {
			t.Errorf("%v and %v: %v", row.a, row.b, got)
		}
		if got := SameTime(row.b, row.a); got != row.want {
			t.Errorf("%v and %v: %v", row.b, row.a, got)
		}
	}
}
