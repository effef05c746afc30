// Package errorspage lets tests compare the tables of docs/errors.md with what clients do.
package errorspage

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/seed-0f2c7998/perdure/circuit"
)

// Rows returns the cells of the table with the given heading, such as "| status | class |".
func Rows(t *testing.T, heading string) (rows [][]string) {
	t.Helper()
	var page []byte
	var err error
	for dir := "docs"; len(dir) < 20; dir = filepath.Join("..", dir) { // a test runs in the directory of its package
		if page, err = os.ReadFile(filepath.Join(dir, "errors.md")); err == nil {
			break
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	columns := strings.Count(heading, "|") - 1
	_, table, found := strings.Cut(string(page), "\n"+heading+"\n"+strings.Repeat("|---", columns)+"|\n")
	if !found {
		t.Fatalf("docs/errors.md has no table with the heading %s", heading)
	}
	table, _, _ = strings.Cut(table, "\n\n")
	for line := range strings.SplitSeq(strings.TrimSpace(table), "\n") {
		cells := strings.Split(strings.Trim(line, "|"), "|")
		if len(cells) != columns {
			t.Fatalf("docs/errors.md: %q has %d cells, want %d", line, len(cells), columns)
		}
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		rows = append(rows, cells)
	}
	return rows
}

// A Trial is the result of an operation, with a [Breaker] and at most three attempts, all of which fail the same way.
type Trial struct{ Attempts, Failures int }

// Breaker returns a breaker that has counted one failure. A success resets the count.
func Breaker() *circuit.Breaker {
	b := circuit.New("page", circuit.Config{FailureThreshold: 10, Observe: func(context.Context, circuit.Transition) {}})
	b.RecordFailure()
	return b
}

// Seen returns the Trial of an operation that made attempts with b.
func Seen[N int | int32 | int64](attempts N, b *circuit.Breaker) Trial {
	return Trial{Attempts: int(attempts), Failures: b.Metrics().Failures}
}

// trials returns the Trial of each class.
func trials() map[string]Trial {
	return map[string]Trial{
		"transient": {3, 4}, "throttled": {3, 1}, "conflict": {3, 0}, "permanent": {1, 0}, "ignored": {1, 1}, "unknown": {1, 2},
		"transient, final": {1, 2}, "transient, once": {2, 0},
	}
}

// Check fails the test unless got is the Trial of the class with that name on the page.
func Check(t *testing.T, what, class string, got Trial) {
	t.Helper()
	if want, ok := trials()[class]; !ok || got != want {
		t.Errorf("%s: %d attempts, and the breaker has counted %d failures; docs/errors.md says %s, which is %+v", what, got.Attempts, got.Failures, class, want)
	}
}

// Compare runs the try of each row of the table with that heading; a row is an error and its class. A row without a try
// fails the test, as does a try without a row.
func Compare(t *testing.T, heading string, tries map[string]func(*testing.T) Trial) {
	t.Helper()
	for _, row := range Rows(t, heading) {
		try, ok := tries[row[0]]
		if !ok {
			t.Errorf("no test for %q of docs/errors.md", row[0])
			continue
		}
		delete(tries, row[0])
		t.Run(row[0], func(t *testing.T) { Check(t, row[0], row[1], try(t)) })
	}
	for row := range tries {
		t.Errorf("docs/errors.md lacks %q", row)
	}
}

// A Status is an HTTP status and its class, from the table of statuses.
type Status struct {
	Code  int
	Class string
}

// Statuses returns the first and the last status of each row, without those below least.
func Statuses(t *testing.T, least int) (statuses []Status) {
	t.Helper()
	for _, row := range Rows(t, "| status | class |") {
		first, last, _ := strings.Cut(row[0], "-")
		for _, text := range []string{first, last} {
			if code, _ := strconv.Atoi(text); code >= least {
				statuses = append(statuses, Status{code, row[1]})
			}
		}
	}
	return statuses
}
