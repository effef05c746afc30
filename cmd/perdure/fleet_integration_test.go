//go:build integration && unix

package main

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/servertest"
)

// The fleet at full size: what sharing is worth, and that kill -9 changes nothing.
func TestFleetOf200(t *testing.T) {
	const n, attempts = 200, 5
	shared := dead(t, n, 0, "host")
	if shared > threshold-1+abreast {
		t.Errorf("%d requests, want at most %d", shared, threshold-1+abreast)
	}
	if got := dead(t, n, 9, "host"); got > threshold-1+abreast {
		t.Errorf("with some killed: %d requests, want at most %d", got, threshold-1+abreast)
	}
	alone := dead(t, n, 0, "memory")
	if alone != n*attempts {
		t.Errorf("without sharing: %d requests, want %d", alone, n*attempts)
	}
	t.Logf("requests to a dead server: %d shared by the host, %d without sharing", shared, alone)
}

// Four hosts that share a Redis server, and nothing else, are nearly as good as one.
func TestFleetThroughRedis(t *testing.T) {
	const n, hosts = 200, 4
	s := newService(t)
	f := newFleet(t, s, "run", "--name", "X", "--max-attempts", "5", "--base-delay", "5ms", "--recovery-timeout", "600", "--store", startRedis(t))
	for range hosts - 1 {
		f.states = append(f.states, t.TempDir())
	}
	f.run(n, 0)
	most := int64(threshold - 1 + abreast + 4*hosts + threshold*f.alone())
	t.Logf("%d processes on %d hosts: %d requests, of at most %d; exit codes %v", n, hosts, s.requests.Load(), most, f.codes)
	if s.requests.Load() > most {
		t.Errorf("%d requests, want at most %d", s.requests.Load(), most)
	}
	for _, state := range f.states {
		if seen := f.status(state); !strings.Contains(seen, "op:X  open   ") {
			t.Errorf("a host does not show it open:\n%s", seen)
		}
	}
	// Isolation on one host holds on all of them. The service is well again, but nothing calls it.
	s.healthy.Store(true)
	f.hand(f.states[0], "isolate")
	f.log.Reset()
	f.run(2*hosts, 0)
	if f.codes[75]+f.alone() < 2*hosts {
		t.Errorf("isolated: exit codes %v, want 75\n%s", f.codes, f.log.String())
	}
	f.hand(f.states[0], "reset")
	f.log.Reset()
	f.run(2*hosts, 0)
	if f.codes[0]+f.alone() < 2*hosts {
		t.Errorf("after the reset: exit codes %v, want 0\n%s", f.codes, f.log.String())
	}
}

// Runs of one name on four hosts that share a Redis server keep to one rate, all of them together, and use it.
func TestFleetKeepsToARate(t *testing.T) {
	const n, hosts, interval = 200, 4, 100 * time.Millisecond // 600 a minute
	arrived := make(chan time.Time, n)
	s := &service{running: map[int]bool{}, Server: httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { arrived <- time.Now() }))}
	t.Cleanup(s.Close)
	f := newFleet(t, s, "run", "--name", "api", "--rate", "600/m", "--max-elapsed", "300", "--store", startRedis(t))
	for range hosts - 1 {
		f.states = append(f.states, t.TempDir())
	}
	begin := time.Now()
	f.run(n, 0)
	if f.codes[0] != n {
		t.Fatalf("exit codes %v, want 0\n%s", f.codes, f.log.String())
	}
	early := f.alone() // those go by what their host knows
	var last time.Duration
	for i := range n {
		last = (<-arrived).Sub(begin)
		if least := time.Duration(float64((i-1-early)*int(interval)) * 0.99); last < least {
			t.Errorf("request %d came after %v, want at least %v", i+1, last, least)
		}
	}
	t.Logf("%d runs on %d hosts have taken %v, by the rate %v; %d without the server", n, hosts, last, (n-1)*interval, early)
	if os.Getenv("PERDURE_TEST_LONG") != "" && last > (n-1)*interval*105/100+time.Second { // else the machine may have much else to do
		t.Error("that is more than 5 % and 1 s longer")
	}
}

// What one host learns through the server's socket, another knows that comes through its port; status and breaker take the
// socket as well.
func TestFleetThroughASocket(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "redis.sock")
	port := startRedis(t, "--unixsocket", socket, "--requirepass", "hunter2")
	s := newService(t)
	f := newFleet(t, s, "run", "--name", "X", "--base-delay", "5ms", "--recovery-timeout", "600", "--store", "unix://:hunter2@"+socket)
	far := newFleet(t, s, append(f.args[:len(f.args)-1:len(f.args)-1], strings.Replace(port, "://", "://:hunter2@", 1))...)
	f.trip()
	want := func(g *fleet, code int, what string) {
		t.Helper()
		if g.reach(); g.codes[code] != 1 || strings.Contains(g.log.String(), "hunter2") {
			t.Errorf("%s: exit codes %v, want %d\n%s", what, g.codes, code, g.log.String())
		}
	}
	want(f, 75, "through the socket")
	want(far, 75, "through the port")
	s.healthy.Store(true)
	f.hand(f.states[0], "reset")
	want(far, 0, "reset through the socket")
	far.hand(far.states[0], "isolate")
	if seen := f.status(f.states[0], f.store()...); !strings.Contains(seen, "op:X  isolated") || strings.Contains(seen, "WARN") {
		t.Errorf("status through the socket shows\n%s", seen)
	}
}

// Of four hosts that wait, too, one process at a time sends the probe.
func TestHostsWaitForTheProbe(t *testing.T) {
	f := newFleet(t, newService(t), append(patient(), "--store", startRedis(t))...)
	for range 3 {
		f.states = append(f.states, t.TempDir())
	}
	waitForTheProbe(t, f)
}

// A server that is away, or hangs, makes no run fail or wait for long: one warning, and the host continues by itself.
func TestRedisIsAway(t *testing.T) {
	hung, err := net.Listen("tcp", "127.0.0.1:0") // accepts, and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = hung.Close() }()
	for what, store := range map[string]string{"no process listens": "redis://127.0.0.1:1", "no response": "redis://" + hung.Addr().String()} {
		t.Run(what, func(t *testing.T) {
			f := newFleet(t, newService(t), "run", "--name", "X", "--base-delay", "5ms", "--store", store)
			f.away = true
			f.trip()
			f.service.healthy.Store(true)
			begin := time.Now()
			f.run(1, 0)
			t.Logf("a run ended after %v", time.Since(begin).Round(time.Millisecond))
			if f.codes[75] != 1 || time.Since(begin) > 20*time.Second || strings.Count(f.log.String(), "WARN: ") != 1 {
				t.Errorf("exit codes %v after %v, want 75 soon, and one warning:\n%s", f.codes, time.Since(begin), f.log.String())
			}
		})
	}
}

// hand overrides the breaker on one host, and for the fleet.
func (f *fleet) hand(state, what string) {
	f.t.Helper()
	store := f.args[len(f.args)-1]
	if out, err := f.reaching(func() *exec.Cmd { return f.command(state, "breaker", what, "X", "--store", store) }); err != nil {
		f.t.Fatalf("%s: %v\n%s", what, err, out)
	}
}

// Of the hosts that learn from the fleet that a breaker is open, none runs the command of --on-open: the process that has opened it did.
func TestOnOpenRunsOnceForAFleet(t *testing.T) {
	f := newFleet(t, newService(t), "run", "--name", "X", "--max-attempts", "5", "--base-delay", "5ms", "--recovery-timeout", "600",
		"--on-open", "echo $PERDURE_BREAKER_REASON >>$PERDURE_STATE/seen", "--store", startRedis(t))
	f.trip()
	if got, err := os.ReadFile(filepath.Join(f.states[0], "seen")); err != nil || string(got) != "5 consecutive failures\n" {
		t.Errorf("the command has written %q, want one line (%v)", got, err)
	}
	for range 3 {
		out, err := f.reaching(func() *exec.Cmd {
			f.states[0] = t.TempDir() // of another host
			return f.command(f.states[0], append(f.args, "--", "fetch", f.service.URL)...)
		})
		if fmt.Sprint(err) != "exit status 75" || !strings.Contains(out, "(set by the fleet)") {
			t.Errorf("%v, want exit status 75 and that the fleet has opened the breaker\n%s", err, out)
		}
		if got, err := os.ReadFile(filepath.Join(f.states[0], "seen")); err == nil {
			t.Errorf("the command of a host that has learned it has written %q", got)
		}
	}
}

// reach runs a process, until one has not found the server too slow for it: on a busy machine some do.
func (f *fleet) reach() {
	f.t.Helper()
	for range 50 {
		f.log.Reset()
		if f.run(1, 0); f.away || f.alone() == 0 {
			return
		}
	}
	f.t.Fatalf("the server takes too long for 50 processes:\n%s", f.log.String())
}

// startRedis starts a server with those flags, and returns its URL when it responds.
func startRedis(t *testing.T, flags ...string) string {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Skip("SKIPPED: redis-server is not installed")
	}
	port, err := servertest.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	flags = append(flags, "--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--save", "", "--dir", t.TempDir())
	c := exec.CommandContext(t.Context(), "redis-server", flags...)
	start(t, c)
	t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
	eventually(t, "the server responds", func() bool {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
		if err != nil {
			return false
		}
		defer func() { _ = conn.Close() }()
		_, err = fmt.Fprint(conn, "PING\r\n")
		response := make([]byte, 5)
		_, readErr := conn.Read(response)
		return err == nil && readErr == nil && (string(response) == "+PONG" || string(response) == "-NOAU")
	})
	return "redis://" + address
}

// An override on one host reaches runs on another that start later, and while its server is away it counts on that host.
func TestHandsOfHosts(t *testing.T) {
	s := newService(t)
	s.healthy.Store(true)
	f := newFleet(t, s, "run", "--name", "X", "--max-attempts", "1", "--store", startRedis(t))
	f.states = append(f.states, t.TempDir())
	want := func(host, code int, what string) {
		t.Helper()
		g := newFleet(t, s, f.args...)
		g.states, g.away = f.states[host:host+1], f.away
		if g.reach(); g.codes[code] != 1 {
			t.Errorf("%s: on host %d exit codes %v, want %d\n%s", what, host, g.codes, code, g.log.String())
		}
	}
	want(0, 0, "at first")
	want(1, 0, "at first")
	f.hand(f.states[0], "isolate")
	want(1, 75, "isolated on host 0")
	if seen := f.status(f.states[1], f.store()...); !strings.Contains(seen, "op:X  isolated") {
		t.Errorf("status on host 1 shows\n%s", seen)
	}
	f.hand(f.states[1], "reset")
	want(0, 0, "reset on host 1")

	redis := f.args
	f.args, f.away = append(f.args[:len(f.args)-1:len(f.args)-1], "redis://127.0.0.1:1"), true
	f.hand(f.states[0], "isolate")
	want(0, 75, "isolated on host 0 while the server is away")
	f.args, f.away = redis, false
	want(1, 0, "host 0 could not say so yet")
	want(0, 75, "the server is back")
	want(1, 75, "host 0 has said so")
	f.hand(f.states[0], "reset")
	want(1, 0, "reset on host 0")
}

// status shows who has the probe of a fleet, on every host.
func TestStatusNamesTheHostThatProbes(t *testing.T) {
	f := newFleet(t, newService(t), "run", "--name", "X", "--max-attempts", "1", "--failure-threshold", "1", "--recovery-timeout", "0.001", "--store", startRedis(t))
	f.states = append(f.states, t.TempDir())
	run := func(state string, child ...string) *exec.Cmd {
		return f.command(state, append(append(f.args, "--"), child...)...)
	}
	if out, err := f.reaching(func() *exec.Cmd { return run(f.states[1], "false") }); err == nil {
		t.Fatalf("the breaker did not open: %s", out)
	}
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	var probe *exec.Cmd
	var want string
	for tries, alone := 0, true; alone && tries < 50; tries++ {
		log := new(text)
		probe = run(f.states[0], "sleep", "60")
		probe.Stderr = log
		start(t, probe)
		want = fmt.Sprintf("in flight (%s:%d), until ", host, probe.Process.Pid)
		eventually(t, "the process has reached the server, or not", func() bool {
			alone = withoutServer(log.String()) > 0
			return alone || strings.Contains(f.status(f.states[0], f.store()...), want)
		})
		if alone {
			_ = probe.Process.Signal(os.Interrupt)
			_ = probe.Wait()
		}
	}
	for _, state := range f.states {
		eventually(t, "status shows "+want, func() bool { return strings.Contains(f.status(state, f.store()...), want) })
	}
	_ = probe.Process.Signal(os.Interrupt) // which its child gets too
	_ = probe.Wait()
	for _, state := range f.states {
		if seen := f.status(state, f.store()...); strings.Contains(seen, host) {
			t.Errorf("the process has ended, and status shows\n%s", seen)
		}
	}
}

// A hash of another release is named by status; what it shows of the others is the fleet's.
func TestStatusNamesAnotherFormat(t *testing.T) {
	redis := startRedis(t)
	f := newFleet(t, newService(t), "run", "--name", "X", "--max-attempts", "1", "--store", redis)
	f.reach()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(redis, "redis://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_, err = fmt.Fprint(conn, "HSET circuit_breaker:op:X format 9\r\n")
	if _, unread := conn.Read(make([]byte, 9)); err != nil || unread != nil {
		t.Fatal(err, unread)
	}
	out, err := f.reaching(func() *exec.Cmd { return f.command(f.states[0], append([]string{"status"}, f.store()...)...) })
	const want = `WARN: A circuit breaker is not shared with the fleet (hash "circuit_breaker:op:X" has format "9", and this release uses "1"); showing this host's state of it` + "\n"
	if shown, said := strings.CutPrefix(out, want); err != nil || !said || !strings.Contains(shown, "op:X") || strings.Contains(shown, "WARN") {
		t.Errorf("%v: it did not begin with %q, and showed\n%s", err, want, out)
	}
}

// store is the flag that names the fleet's.
func (f *fleet) store() []string { return f.args[len(f.args)-2:] }
