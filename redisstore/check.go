package redisstore

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/redis/rueidis"

	"github.com/seed-0f2c7998/perdure/internal/cell"
	"github.com/seed-0f2c7998/perdure/internal/fleet"
	"github.com/seed-0f2c7998/perdure/internal/redact"
	"github.com/seed-0f2c7998/perdure/internal/setting"
)

// The limits of a response. A server may store anything, and any client may have
// written it.
const (
	maxReply = 64 << 10                   // bytes
	maxGen   = 1 << 53                    // the scripts count in doubles
	maxOpen  = 31 * 24 * time.Hour        // longer than any open time or lease
	maxAgo   = 100 * 365 * 24 * time.Hour // since an override
	maxRate  = 1e6                        // calls a second, burst, and instants of one reservation
	maxName  = 255                        // bytes of the name of a node or process
	maxDigit = 20                         // of an instant or a reason

	maxInterval = 25 * time.Hour // between two calls
)

// check returns an error if r is invalid.
func (r *reply) check() error {
	if r.Key == "" {
		return bad("key", r.Key, "the name of a hash")
	}
	if r.Format != format {
		return &fleet.UnsharedError{Err: fmt.Errorf("hash %q has format %.20q, and this release uses %q", r.Key, r.Format, format)}
	}
	ago := int64(0)
	if r.Override != "" {
		ago = max(r.Ago, -r.Ago)
	}
	for _, n := range []struct {
		field       string
		value, most int64
	}{
		{"gen", r.Gen, maxGen},
		{"open", r.Open, maxOpen.Milliseconds()},
		{"lease", r.Lease, maxOpen.Milliseconds()},
		{"ago", ago, maxAgo.Milliseconds()},
		{"granted", r.Granted, cell.MaxCeiling},
		{"limit", r.Limit, cell.MaxCeiling},
		{"fair_share", r.FairShare, cell.MaxCeiling},
		{"available", r.Available, cell.MaxCeiling},
		{"from", r.From, maxOpen.Microseconds()},
		{"count", r.Count, maxRate},
		{"interval", r.Interval, int64(maxInterval)},
		{"burst", r.Burst, maxRate},
		{"nodes", r.Nodes, maxRate},
	} {
		if n.value < 0 || n.value > n.most {
			return bad(n.field, n.value, fmt.Sprintf("0 to %d", n.most))
		}
	}
	for _, s := range []struct{ field, value string }{{"epoch", r.Epoch}, {"process", r.Process}, {"node", r.Node}} {
		if !isName(s.value) || s.field == "epoch" && s.value == "" {
			return bad(s.field, s.value, wantName)
		}
	}
	for _, s := range []struct{ field, value string }{{"handed", r.Override}, {"reason", r.Reason}} {
		if len(s.value) > maxDigit || strings.Trim(s.value, "0123456789") != "" {
			return bad(s.field, s.value, fmt.Sprintf("at most %d digits", maxDigit))
		}
	}
	return nil
}

const wantName = "at most 255 bytes of printable text"

// isName reports whether s may be the name of a node or process.
func isName(s string) bool { return len(s) <= maxName && s == printable(s) }

// bad returns an error about a field of a response.
func bad(field string, value any, want string) error {
	if s, ok := value.(string); ok && len(s) > 40 {
		value = s[:40] + "..."
	}
	return errors.New("invalid response: " + setting.Bad(field, value, want).Error()) // with another type: the field is not a setting
}

// printable returns s with a mark in the place of each character that is not
// printable: it could forge a line of a log, or control a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return utf8.RuneError
	}, s)
}

// secrets holds what no text of this package may show.
type secrets = redact.Secrets

// passwords returns the secrets in the options of a client.
func passwords(c rueidis.ClientOption) secrets {
	return secrets(nil).Value(c.Password).Value(c.Sentinel.Password)
}

// cleaned returns err with a text that may be shown: a server's text may quote the
// passwords.
func cleaned(err error, passwords secrets) error {
	if err == nil {
		return nil
	}
	text := redact.String(printable(passwords.Redact(err.Error())))
	if text == err.Error() {
		return err
	}
	return errors.New(text)
}
