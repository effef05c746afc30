package state

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/seed-0f2c7998/perdure/circuit"
)

// WriteTable writes what was seen for people.
func (l *Look) WriteTable(w io.Writer) error {
	switch {
	case !l.Exists():
		_, err := fmt.Fprintf(w, "No circuit breakers yet: %s does not exist.\n", l.Path)
		return err
	case len(l.Keys) == 0:
		_, err := fmt.Fprintf(w, "No circuit breakers yet: %s is empty.\n", l.Path)
		return err
	}
	now := time.Now()
	var b bytes.Buffer
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "KEY\tSTATE\tSINCE\tWHY\tNEXT PROBE\tNOT BEFORE\tBUDGET")
	for _, r := range l.Rows() {
		budget := ""
		if r.Budget != nil {
			budget = fmt.Sprintf("%.1f", *r.Budget)
		}
		fmt.Fprintf(t, "%s\t%v\t%s\t%s\t%s\t%s\t%s\n", inOneLine(r.Key), r.State, ago(now, r.Since), orNone(r.why()),
			r.nextProbe(now), ahead(now, r.NotBefore), orNone(budget))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := b.WriteTo(w)
	return err
}

// WriteJSON writes what was seen as one JSON object in one line.
func (l *Look) WriteJSON(w io.Writer) error {
	return json.NewEncoder(w).Encode(struct {
		Time   time.Time `json:"time"`
		Store  string    `json:"store"`
		Path   string    `json:"path"`
		Exists bool      `json:"exists"`
		Keys   []Row     `json:"keys"`
	}{time.Now(), l.where(), l.Path, l.Exists(), l.Rows()})
}

// where is what kind of store was looked at.
func (l *Look) where() string {
	if l.fleet != nil {
		return "redis"
	}
	return "host"
}

// inOneLine is a key as it is, or in quotes if there is in it what would break the
// table.
func inOneLine(key string) string {
	if strings.ContainsFunc(key, unicode.IsControl) {
		return strconv.Quote(key)
	}
	return key
}

func orNone(text string) string { return cmp.Or(text, "-") }

// nextProbe is when the next call passes a breaker that is not closed.
func (r Row) nextProbe(now time.Time) string {
	switch {
	case r.LeaseEnds != nil:
		return "out" + r.holder() + ", until " + clock(now, *r.LeaseEnds)
	case r.State == circuit.HalfOpen:
		return "next call"
	case r.State == circuit.Isolated:
		return "after reset"
	}
	return ahead(now, r.NextProbe)
}

// holder is who has the lease, in brackets.
func (r Row) holder() string {
	switch {
	case r.LeaseHost != "":
		return fmt.Sprintf(" (%s:%d)", r.LeaseHost, r.LeasePID)
	case r.LeasePID != 0:
		return fmt.Sprintf(" (pid %d)", r.LeasePID)
	}
	return ""
}

func ago(now time.Time, t *time.Time) string {
	if t == nil {
		return "-"
	}
	return clock(now, *t) + " (" + short(now.Sub(*t)) + " ago)"
}

func ahead(now time.Time, t *time.Time) string {
	if t == nil {
		return "-"
	}
	return clock(now, *t) + " (in " + short(t.Sub(now)) + ")"
}

// clock is the time of day, with the day if that is another.
func clock(now, t time.Time) string {
	if t.Format(time.DateOnly) == now.Format(time.DateOnly) {
		return t.Format(time.TimeOnly)
	}
	return t.Format(time.DateTime)
}

// short is a duration in its two greatest units.
func short(d time.Duration) string {
	d = max(d, 0).Round(time.Second)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm%ds", d/time.Minute, d%time.Minute/time.Second)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	default:
		return fmt.Sprintf("%dd%dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
	}
}
