// Package errorspage compares docs/errors.md with what clients do, in their tests.
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

// Rows returns the cells of the table of the page that has this heading, such as "| status | class |".
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

// A Trial is what was seen of an operation that failed in one way at each of at most three attempts, with a [Breaker].
type Trial struct{ Attempts, Failures int }

// Breaker returns a breaker that knows of one failure, which a success makes it forget.
func Breaker() *circuit.Breaker {
	b := circuit.New("page", circuit.Config{FailureThreshold: 10, Observe: func(context.Context, circuit.Transition) {}})
	b.RecordFailure()
	return b
}

// Seen returns the Trial of so many attempts after which b is as it is.
func Seen[N int | int32 | int64](attempts N, b *circuit.Breaker) Trial {
	return Trial{Attempts: int(attempts), Failures: b.Metrics().Failures}
}

// trials returns what is seen of each class. Final is for a class that is retried otherwise.
func trials() map[string]Trial {
	return map[string]Trial{
		"transient": {3, 4}, "throttled": {3, 1}, "conflict": {3, 0}, "permanent": {1, 0}, "ignored": {1, 1}, "unknown": {1, 2},
		"transient, final": {1, 2}, "transient, once": {2, 0},
	}
}

// Check reports an error unless the Trial is that of the class, by its name on the page.
func Check(t *testing.T, what, class string, got Trial) {
	t.Helper()
	if want, ok := trials()[class]; !ok || got != want {
		t.Errorf("%s: %d attempts, and the breaker then knows of %d failures; docs/errors.md says %s, which is %+v", what, got.Attempts, got.Failures, class, want)
	}
}

// Compare tries each row of the table with that heading, of an error and its class. A row that has no trial is an error, and
// so is a trial that has no row.
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

// A Status is one of the table of statuses.
type Status struct {
	Code  int
	Class string
}

// Statuses returns the first and the last status of each row from least on.
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
