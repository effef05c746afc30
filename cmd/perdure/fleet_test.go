//go:build unix

package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// A service is what many processes call. It counts.
type service struct {
	*httptest.Server

	requests atomic.Int64
	healthy  atomic.Bool

	mu        sync.Mutex
	kill      int          // so many of the next probes lose the process that sends them
	running   map[int]bool // processes of the fleet; the values tell whether they have sent a request
	lost      int          // requests whose process was killed before it could record their end, at most
	inFlight  int
	responded bool        // a request has been responded well
	most      int         // requests at a time before that
	probes    []time.Time // when those began that came after watch
	killed    []int       // processes
}

func newService(t *testing.T) *service {
	t.Helper()
	s := &service{running: map[int]bool{}}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.requests.Add(1)
	s.mu.Lock()
	s.inFlight++
	if pid, err := strconv.Atoi(r.Header.Get("Parent")); err == nil && s.runsNow(pid) {
		s.running[pid] = true
	} else {
		s.lost++
	}
	alone := !s.responded
	if alone {
		s.most = max(s.most, s.inFlight)
		s.probes = append(s.probes, time.Now())
	}
	s.mu.Unlock()
	healthy := s.healthy.Load()
	if alone && healthy { // long enough for the others to come as well, if they may
		<-time.After(200 * time.Millisecond)
		if s.killSender(r) {
			healthy = false
		}
	}
	s.mu.Lock()
	s.inFlight--
	s.responded = s.responded || healthy
	s.mu.Unlock()
	if !healthy {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
}

// killSender kills the process that has the probe, if one is to lose it. The parent of a command whose run was killed is
// another process.
func (s *service) killSender(r *http.Request) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	pid, err := strconv.Atoi(r.Header.Get("Parent"))
	if s.kill == 0 || err != nil || !s.runsNow(pid) || syscall.Kill(pid, syscall.SIGKILL) != nil {
		return false
	}
	s.kill--
	s.killed = append(s.killed, pid)
	return true
}

// runsNow reports whether a process of the fleet runs. s.mu is held.
func (s *service) runsNow(pid int) bool {
	_, runs := s.running[pid]
	return runs
}

// runs starts a process that killSender may kill until ran is called.
func (s *service) runs(c *exec.Cmd) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := c.Start()
	if err == nil {
		s.running[c.Process.Pid] = false
	}
	return err
}

func (s *service) ran(c *exec.Cmd) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running[c.Process.Pid] && !c.ProcessState.Exited() {
		s.lost++
	}
	delete(s.running, c.Process.Pid)
}

// watch begins to count what comes while the breaker is not closed.
func (s *service) watch() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.responded, s.most, s.probes = false, 0, nil
}

// A fleet is processes that share a state directory, or several of them.
type fleet struct {
	t       *testing.T
	states  []string // directories: one for each host
	service *service
	args    []string // of run, besides the command
	away    bool     // its server is away: no process is to reach it

	mu    sync.Mutex
	codes map[int]int // how many ended with each exit code
	log   strings.Builder
}

// abreast is how many processes of a fleet run at a time.
const abreast = 20

func newFleet(t *testing.T, s *service, args ...string) *fleet {
	t.Helper()
	return &fleet{t: t, states: []string{t.TempDir()}, service: s, args: args}
}

// run runs n processes, and kills every nth of them if that is above 0.
func (f *fleet) run(n, nth int) {
	f.t.Helper()
	f.codes = map[int]int{}
	places := make(chan struct{}, abreast)
	var all sync.WaitGroup
	for i := range n {
		places <- struct{}{}
		all.Go(func() {
			f.one(f.states[i%len(f.states)], nth > 0 && i%nth == nth-1)
			<-places
		})
	}
	all.Wait()
}

// command is perdure with those arguments.
func (f *fleet) command(state string, args ...string) *exec.Cmd {
	c := exec.CommandContext(f.t.Context(), "perdure", args...)
	c.Env = append(os.Environ(), noRaceDelay, "PERDURE_STATE="+state, "PERDURE_JITTER=0")
	return c
}

// one runs one process.
func (f *fleet) one(state string, kill bool) {
	c := f.command(state, append(f.args, "--", "fetch", f.service.URL)...)
	var out strings.Builder
	c.Stderr = &out
	if err := f.service.runs(c); err != nil {
		f.t.Error(err)
		return
	}
	if kill {
		time.AfterFunc(30*time.Millisecond, func() { _ = c.Process.Kill() })
	}
	_ = c.Wait() // the code tells
	f.service.ran(c)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.codes[c.ProcessState.ExitCode()]++
	fmt.Fprintln(&f.log, out.String())
}

// withoutServer returns how many processes with that output have resumed what their host knows, since the server took longer
// than half a second: on a busy machine some do.
func withoutServer(output string) (n int) {
	for _, warning := range []string{"Shared store has not responded within ", "Shared store unreachable (", "are not shared with the fleet"} {
		n += strings.Count(output, warning)
	}
	return n
}

// alone returns how many processes of the fleet are withoutServer.
func (f *fleet) alone() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return withoutServer(f.log.String())
}

// reaching runs commands until the server has not been too slow for one, and returns the output of that.
func (f *fleet) reaching(next func() *exec.Cmd) (out string, err error) {
	f.t.Helper()
	for range 50 {
		text, err := next().CombinedOutput()
		if out = string(text); f.away || withoutServer(out) == 0 {
			return out, err
		}
	}
	f.t.Fatalf("the server takes too long for 50 processes:\n%s", out)
	return "", nil
}

// trip makes the breaker open, by failures. A host for which the server was too slow knows that alone, and makes room for
// another one.
func (f *fleet) trip() {
	f.t.Helper()
	tried := false
	out, err := f.reaching(func() *exec.Cmd {
		if tried {
			f.states[0] = f.t.TempDir()
		}
		tried = true
		return f.command(f.states[0], append(f.args, "--", "fetch", f.service.URL)...)
	})
	if err == nil || !strings.Contains(out, "from closed to open") {
		f.t.Fatalf("the breaker did not open: %v\n%s", err, out)
	}
}

// status is what perdure status shows of a host.
func (f *fleet) status(state string, flags ...string) string {
	f.t.Helper()
	out, err := f.reaching(func() *exec.Cmd { return f.command(state, append([]string{"status"}, flags...)...) })
	if err != nil {
		f.t.Fatalf("%v\n%s", err, out)
	}
	return out
}

const threshold = 5

// dead runs n processes against a service that is dead, and returns how many requests that gets, but for those whose end a
// killed process could not record.
func dead(t *testing.T, n, nth int, store string) int64 {
	t.Helper()
	s := newService(t)
	f := newFleet(t, s, "run", "--name", "X", "--max-attempts", "5", "--base-delay", "5ms", "--recovery-timeout", "600", "--store", store)
	f.run(n, nth)
	if seen := f.status(f.states[0]); store == "host" && !strings.Contains(seen, "op:X  open   ") {
		t.Errorf("status does not show it open:\n%s", seen)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t.Logf("%d processes, %d at a time, store %s, %d of them killed: %d requests, of which %d are of killed processes; exit codes %v",
		n, abreast, store, f.codes[-1], s.requests.Load(), s.lost, f.codes)
	return s.requests.Load() - int64(s.lost)
}

// Against a dead service all processes of a host are like one client.
func TestFleetAgainstADeadService(t *testing.T) {
	if got := dead(t, 40, 0, "host"); got > threshold-1+abreast {
		t.Errorf("%d requests, want at most %d", got, threshold-1+abreast)
	}
}

// Those who wait for a service to come back send one probe at a time, also when the one who has it is killed, and then all
// of them pass.
func TestFleetWaitsForTheProbe(t *testing.T) {
	waitForTheProbe(t, newFleet(t, newService(t), patient()...))
}

// patient are the arguments of a fleet that waits.
func patient() []string {
	return []string{"run", "--name", "X", "--max-attempts", "5", "--base-delay", "5ms", "--recovery-timeout", "1", "--probe-lease", "5", "--wait", "60"}
}

func waitForTheProbe(t *testing.T, f *fleet) {
	t.Helper()
	s := f.service
	f.trip()
	s.watch()
	s.mu.Lock()
	s.kill = 1
	s.mu.Unlock()
	const down = 2500 * time.Millisecond
	begin := time.Now()
	heal := time.AfterFunc(down, func() { s.healthy.Store(true) })
	defer heal.Stop()
	const n = 2 * abreast
	f.run(n, 8)
	s.mu.Lock()
	defer s.mu.Unlock()
	killed := f.codes[-1]
	t.Logf("%d processes, %d killed, one of them with the probe; %d probes, %d at a time; healed after %v, the last probe after %v; exit codes %v",
		n, killed, len(s.probes), s.most, down, s.probes[len(s.probes)-1].Sub(begin).Round(time.Millisecond), f.codes)
	hosts := 1 // that know nothing of one another
	if f.alone() > 0 {
		hosts = len(f.states)
	}
	if s.most > hosts {
		t.Errorf("%d probes at a time, want %d", s.most, hosts)
	}
	if len(s.killed) != 1 || killed < 1 || f.codes[0] != n-killed {
		t.Errorf("exit codes %v, want 0 of all that were not killed\n%s", f.codes, f.log.String())
	}
	// Once the service is healthy, a host that learns late that the breaker is closed sends another probe, which does no harm.
	failed := len(slices.DeleteFunc(slices.Clone(s.probes), func(at time.Time) bool { return at.Sub(begin) > down }))
	if most := hosts * (5 + int(down/time.Second)); failed > most {
		t.Errorf("%d probes of a service that is down, want one each second of %d hosts", failed, hosts)
	}
}

// One who waits is back soon after the service is, and the recovery time is over.
func TestWaitEndsSoon(t *testing.T) {
	s := newService(t)
	f := newFleet(t, s, "run", "--name", "X", "--max-attempts", "5", "--base-delay", "5ms", "--recovery-timeout", "1.2", "--wait", "60")
	f.trip()
	s.healthy.Store(true)
	begin := time.Now()
	f.run(1, 0)
	late := time.Since(begin) - 1200*time.Millisecond
	t.Logf("back %v after the recovery time was over, of which the request took 200ms", late.Round(time.Millisecond))
	if f.codes[0] != 1 || late > 20*time.Second {
		t.Errorf("exit codes %v, %v late, want 0 and at most 20s\n%s", f.codes, late, f.log.String())
	}
}
