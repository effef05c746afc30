package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A gauge is a server that knows how many requests it serves at a time. It keeps
// the first until there are as many as want.
type gauge struct {
	*httptest.Server

	want int
	hold time.Duration

	mu     sync.Mutex
	inside int
	most   int
	served int
	full   chan struct{} // closed when want are inside

	last time.Time     // when inside changed
	busy time.Duration // requests times how long they were served
	from time.Time     // when the first began
}

func newGauge(t *testing.T, want int, hold time.Duration) *gauge {
	t.Helper()
	g := &gauge{want: want, hold: hold, full: make(chan struct{})}
	g.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if g.count(1) == g.want {
			select {
			case <-g.full:
			default:
				close(g.full)
			}
		}
		defer g.count(-1)
		select {
		case <-g.full:
		case <-r.Context().Done():
			return
		}
		timer := time.NewTimer(g.hold)
		defer timer.Stop()
		<-timer.C
	}))
	t.Cleanup(g.Close)
	return g
}

func (g *gauge) count(by int) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	if g.from.IsZero() {
		g.from, g.last = now, now
	}
	g.busy += time.Duration(g.inside) * now.Sub(g.last)
	g.last = now
	g.inside += by
	g.most = max(g.most, g.inside)
	if by < 0 {
		g.served++
	}
	return g.inside
}

// fetchCommand is the path of the command fetch, which these tests run.
func fetchCommand(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "fetch")
	if err := os.Symlink(self, link); err != nil {
		t.Fatal(err)
	}
	return link
}

// limitedRuns has that many processes run a command at a server, and returns it when
// all have succeeded.
func limitedRuns(t *testing.T, processes, limit int, hold time.Duration) *gauge {
	t.Helper()
	state := []string{"PERDURE_STATE=" + t.TempDir()}
	fetch, g := fetchCommand(t), newGauge(t, limit, hold)
	var all sync.WaitGroup
	for range processes {
		c := command(t, state, "run", "--name", "api", "--concurrency", fmt.Sprint(limit), "--max-elapsed", "300", "--", fetch, g.URL)
		all.Go(func() {
			if out, err := c.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
	all.Wait()
	if g.most != limit || g.served != processes {
		t.Errorf("%d requests were served, at most %d at once, want %d and %d", g.served, g.most, processes, limit)
	}
	return g
}

// However many processes a host runs, only so many calls are in flight.
func TestProcessesShareThePlaces(t *testing.T) {
	limitedRuns(t, 12, 3, 20*time.Millisecond)
}

// usage returns what status says of the only key.
func usage(t *testing.T, state []string) (inFlight, limit int) {
	t.Helper()
	out, err := command(t, state, "status", "--json").Output()
	var seen struct {
		Keys []struct {
			InFlight    int `json:"in_flight"`
			Concurrency int
		}
	}
	if err != nil || json.Unmarshal(out, &seen) != nil || len(seen.Keys) != 1 {
		t.Fatalf("%v\n%s", err, out)
	}
	return seen.Keys[0].InFlight, seen.Keys[0].Concurrency
}

// A run that is killed leaves its command, which continues to count until it ends; of a
// command that ends, or is killed with it, the place is free at once.
func TestAKilledRunFreesItsPlace(t *testing.T) {
	for _, all := range []bool{false, true} {
		state := []string{"PERDURE_STATE=" + t.TempDir()}
		run := []string{"run", "--name", "load", "--concurrency", "1", "--max-elapsed", "300", "--"}
		latch := filepath.Join(t.TempDir(), "latch") // which the command waits for
		if err := syscall.Mkfifo(latch, 0o600); err != nil {
			t.Fatal(err)
		}
		hold := command(t, state, append(run, "sh", "-c", "echo $$; read line < "+latch+"; echo done")...)
		out, err := hold.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		start(t, hold)
		var child int
		if _, err := fmt.Fscan(out, &child); err != nil {
			t.Fatal(err)
		}
		if n, limit := usage(t, state); n != 1 || limit != 1 {
			t.Errorf("%d of %d in flight, want 1 of 1", n, limit)
		}
		if err := hold.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_, _ = hold.Process.Wait() // Wait of hold would close out
		if n, _ := usage(t, state); n != 1 {
			t.Errorf("%d in flight while the command of a killed run continues, want 1", n)
		}
		var next *exec.Cmd
		if all {
			err = syscall.Kill(-child, syscall.SIGKILL)
			next = start(t, command(t, state, append(run, "true")...))
		} else {
			next = start(t, command(t, state, append(run, "true")...))
			eventually(t, "the next run waits", func() bool { _, limit := usage(t, state); return limit == 1 })
			err = os.WriteFile(latch, []byte("continue\n"), 0o600)
		}
		rest, read := io.ReadAll(out)
		if err := errors.Join(err, read, next.Wait()); err != nil || strings.Contains(string(rest), "done") == all {
			t.Errorf("%v %q", err, rest)
		}
		eventually(t, "all places are free", func() bool { n, limit := usage(t, state); return n == 0 && limit == 0 })
	}
}

// Of processes with different limits, the lowest of those that run holds, which is
// said; who finds no place ends with 75 and says why.
func TestTheLowestLimitOfTheProcessesHolds(t *testing.T) {
	state := []string{"PERDURE_STATE=" + t.TempDir()}
	held := command(t, state, "run", "--name", "load", "--concurrency", "1", "--", "sh", "-c", "echo up; read line; true")
	out, err := held.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	in, err := held.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	start(t, held)
	var up string
	if _, err := fmt.Fscan(out, &up); err != nil {
		t.Fatal(err)
	}
	other := command(t, state, "run", "--name", "load", "--concurrency", "4", "--max-elapsed", "0.05", "--", "true")
	text, err := other.CombinedOutput()
	exit, _ := err.(*exec.ExitError) //nolint:errorlint // as CombinedOutput returns it
	if exit == nil || exit.ExitCode() != 75 ||
		!strings.Contains(string(text), "WARN: Concurrency of 'op:load' is 1, the lower limit of another process, not 4") ||
		!strings.Contains(string(text), "concurrency limit of \"op:load\" is reached\nperdure: the concurrency limit of op:load asks to wait. "+
			"To wait for another call to end: --wait 10m; to go around it: --store memory\n") {
		t.Errorf("%v\n%s", err, text)
	}
	table, err := command(t, state, "status").Output()
	if err != nil || !strings.Contains(string(table), "  1 of 1 in flight ") {
		t.Errorf("%v\n%s", err, table)
	}
	run := []string{"run", "--name", "load", "--concurrency", "1", "--max-elapsed", "0.05", "--wait", "300", "--", "true"}
	interrupted := start(t, command(t, state, run...))
	patient := command(t, state, run...)
	reported, err := patient.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	start(t, patient)
	lines := bufio.NewReader(reported)
	for _, want := range []string{
		"INFO: load waits: concurrency limit of 'op:load' is reached\n",
		"INFO: Waiting: concurrency limit of 'op:load' is reached\n",
	} {
		if line, err := lines.ReadString('\n'); err != nil || line != want {
			t.Errorf("%v: it says %q, want %q", err, line, want)
		}
	}
	go func() { _, _ = io.Copy(io.Discard, lines) }()
	eventually(t, "it hears signals", func() bool {
		_ = interrupted.Process.Signal(os.Interrupt)
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(interrupted.Process.Pid, &status, syscall.WNOHANG, nil)
		return err == nil && pid > 0 && (status.ExitStatus() == 130 || status.Signal() == syscall.SIGINT)
	})
	in.Close()
	_ = held.Wait()
	if err := patient.Wait(); err != nil {
		t.Errorf("who waits longer: %v", err)
	}
}

// The file is this user's alone, and one that others could write is not used.
func TestTheFileOfPlacesIsPrivate(t *testing.T) {
	dir := t.TempDir()
	state := []string{"PERDURE_STATE=" + dir}
	run := func() string {
		out, err := command(t, state, "run", "--name", "load", "--concurrency", "1", "--", "true").CombinedOutput()
		if err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return string(out)
	}
	path := filepath.Join(dir, "places.1")
	if text := run(); text != "" {
		t.Errorf("it said %q", text)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 || info.Size() != 0 {
		t.Fatalf("%v %v, want an empty file of mode 0600", err, info)
	}
	for _, spoil := range []func() error{
		func() error { return os.Chmod(path, 0o622) },
		func() error {
			if err := os.Remove(path); err != nil {
				return err
			}
			return os.Symlink(filepath.Join(dir, "elsewhere"), path)
		},
		func() error {
			if err := os.Remove(path); err != nil {
				return err
			}
			return syscall.Mkfifo(path, 0o600)
		},
	} {
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		if text := run(); !strings.Contains(text, "Concurrency of 'op:load' is limited in this process only") {
			t.Errorf("it said %q, want a warning", text)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "elsewhere")); err == nil {
		t.Error("a link was followed")
	}
}
