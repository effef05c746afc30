package state

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/report"
	"github.com/seed-0f2c7998/perdure/hoststore"
	"github.com/seed-0f2c7998/perdure/internal/cell"
)

// WriteTable writes the snapshot as a table for people.
func (s *Snapshot) WriteTable(w io.Writer) error {
	var b bytes.Buffer
	switch {
	case !s.Exists():
		fmt.Fprintf(&b, "No circuit breakers yet on this host: %s does not exist.\n", report.Line(s.Path))
	case len(s.Keys) == 0:
		fmt.Fprintf(&b, "No circuit breakers yet on this host: %s is empty.\n", report.Line(s.Path))
	default:
		s.writeRows(&b)
	}
	for _, o := range s.Others {
		fmt.Fprintf(&b, "Another version of perdure has its own circuit breakers in %s (format version %d). They are not shared with this version, which uses %s (format version %d).\n",
			report.Line(o.Path), o.Version, report.Line(s.Path), cell.Version)
	}
	_, err := b.WriteTo(w)
	return err
}

func (s *Snapshot) writeRows(w io.Writer) {
	now := time.Now()
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "KEY\tSTATE\tSINCE\tWHY\tNEXT PROBE\tNOT BEFORE\tBUDGET")
	for _, r := range s.Rows() {
		budget := ""
		if r.Budget != nil {
			budget = fmt.Sprintf("%.1f", *r.Budget)
		}
		fmt.Fprintf(t, "%s\t%v\t%s\t%s\t%s\t%s\t%s\n", report.Line(r.Key), r.state(), when(r.Since, now), orNone(r.why()),
			r.nextProbe(now), when(r.NotBefore, now), orNone(budget))
	}
	_ = t.Flush() // writes to memory
}

// WriteJSON writes the snapshot as one JSON object in one line.
func (s *Snapshot) WriteJSON(w io.Writer) error {
	return json.NewEncoder(w).Encode(struct {
		Time    time.Time        `json:"time"`
		Store   string           `json:"store"`
		Path    string           `json:"path"`
		Version int              `json:"version"`
		Others  []hoststore.File `json:"other_versions,omitempty"`
		Exists  bool             `json:"exists"`
		Keys    []Row            `json:"keys"`
	}{time.Now(), s.where(), s.Path, cell.Version, s.Others, s.Exists(), s.Rows()})
}

// where returns the kind of the store.
func (s *Snapshot) where() string {
	if s.fleet != nil {
		return "redis"
	}
	return "host"
}

func orNone(text string) string { return cmp.Or(text, "-") }

// nextProbe returns when the next call passes a breaker that is not closed.
func (r Row) nextProbe(now time.Time) string {
	switch {
	case r.LeaseEnds != nil:
		return "in flight" + r.holder() + ", until " + report.Instant(*r.LeaseEnds, now)
	case r.State == circuit.HalfOpen:
		return "next call"
	case r.State == circuit.Isolated:
		return "after reset"
	}
	return when(r.NextProbe, now)
}

// holder returns the process with the lease, in parentheses.
func (r Row) holder() string {
	switch {
	case r.LeaseHost != "":
		return fmt.Sprintf(" (%s:%d)", report.Line(r.LeaseHost), r.LeasePID)
	case r.LeasePID != 0:
		return fmt.Sprintf(" (pid %d)", r.LeasePID)
	}
	return ""
}

// when returns an instant as package report shows it.
func when(at *time.Time, now time.Time) string {
	if at == nil {
		return "-"
	}
	return report.Instant(*at, now)
}
