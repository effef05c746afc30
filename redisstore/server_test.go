package redisstore_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/servertest"
	"github.com/seed-0f2c7998/perdure/redisstore"
)

// A server is a real redis-server of one test.
type server struct {
	t    *testing.T
	port int
	args []string
	cmd  *exec.Cmd
	log  bytes.Buffer // to be read when it has ended

	ended <-chan struct{} // closed when the process has
}

// startServer starts a redis-server on a free port of the loopback interface.
func startServer(t *testing.T, args ...string) *server {
	t.Helper()
	if _, err := exec.LookPath(redisstore.ServerBinary()); err != nil {
		t.Skip("redis-server is not installed: nothing is shown about a real server")
	}
	t.TempDir() // the first call has the directories removed, after the server has been killed
	s := &server{t: t, port: freePort(t), args: args}
	t.Cleanup(func() {
		if s.ended != nil {
			s.signal(resume)
			s.kill()
		}
		if t.Failed() {
			t.Logf("%s:\n%s", redisstore.ServerBinary(), s.log.String())
		}
	})
	s.start()
	return s
}

func freePort(t *testing.T) int {
	t.Helper()
	port, err := servertest.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// start starts the process and waits until it accepts.
func (s *server) start() {
	s.t.Helper()
	dir := s.t.TempDir()
	args := append([]string{"--bind", "127.0.0.1", "--port", strconv.Itoa(s.port), "--save", "", "--dir", dir}, s.args...)
	s.cmd = exec.CommandContext(context.WithoutCancel(s.t.Context()), redisstore.ServerBinary(), args...)
	s.cmd.Stdout, s.cmd.Stderr = &s.log, &s.log
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	ended := make(chan struct{})
	s.ended = ended
	go func() {
		defer close(ended)
		_ = s.cmd.Wait() // it is killed
	}()
	if err := servertest.Await(s.t.Context(), s.addr(), ended); err != nil {
		s.t.Fatal(err)
	}
}

func (s *server) addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }
func (s *server) url() string  { return "redis://" + s.addr() }

func (s *server) signal(sig os.Signal) { _ = s.cmd.Process.Signal(sig) }

// kill kills the process, with all that it knew.
func (s *server) kill() {
	s.signal(os.Kill)
	<-s.ended
}

// client returns a client of the test's own.
func (s *server) client() rueidis.Client {
	s.t.Helper()
	c, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{s.addr()}, DisableCache: true, ForceSingleClient: true})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(c.Close)
	return c
}

// scriptsRun returns how many scripts the server has run, and all commands of
// any kind, those in scripts included.
func scriptsRun(t *testing.T, c rueidis.Client) (scripts, all int) {
	t.Helper()
	text, err := c.Do(t.Context(), c.B().Info().Section("commandstats").Build()).ToString()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(text) {
		name, rest, ok := strings.Cut(strings.TrimSpace(line), ":calls=")
		if !ok {
			continue
		}
		digits, _, _ := strings.Cut(rest, ",")
		n, err := strconv.Atoi(digits)
		if err != nil {
			t.Fatal(err)
		}
		if name == "cmdstat_info" {
			continue
		}
		all += n
		if strings.HasPrefix(name, "cmdstat_eval") {
			scripts += n
		}
	}
	return scripts, all
}

// open returns a store of one node, closed at the end of the test.
func open(t *testing.T, o redisstore.Options) *redisstore.Store {
	t.Helper()
	s, err := redisstore.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// A member is one process of a fleet, in this one.
type member struct {
	*redisstore.Store
	*circuit.Breaker
}

// fleet returns n members, all ready, with nodes of their own, and breakers of
// the same name.
func fleet(t *testing.T, n int, o redisstore.Options, c circuit.Config) []member {
	t.Helper()
	var all []member
	for i := range n {
		o.Node = fmt.Sprintf("node-%d", i)
		m := member{Store: open(t, o)}
		c.Store = m.Store
		if c.Observe == nil {
			c.Observe = func(context.Context, circuit.Transition) {}
		}
		m.Breaker = circuit.New("backend", c)
		all = append(all, m)
	}
	for _, m := range all {
		ready(t, m.Store)
	}
	return all
}

func ready(t *testing.T, s *redisstore.Store) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := s.Ready(ctx); err != nil {
		t.Fatalf("not ready: %v", err)
	}
}

// allReported waits until the server has responded to what the members have reported so
// far.
func allReported(t *testing.T, f ...member) {
	t.Helper()
	for range 2 { // the first response may be to an earlier call
		began := time.Now()
		for _, m := range f {
			eventually(t, func() bool { _, responded := m.Status("backend"); return responded.After(began) }, "the server responds")
		}
	}
}

// fail makes a call fail.
func fail(t *testing.T, b *circuit.Breaker) {
	t.Helper()
	p, err := b.Acquire()
	if err != nil {
		t.Fatalf("a call that fails: %v", err)
	}
	p.Failure()
}

// opens makes calls of the members fail until the fleet is open. One failure of each may not
// be enough: a vote that a process under load does not send within its open time is dropped.
func opens(t *testing.T, f ...member) {
	t.Helper()
	eventually(t, func() bool {
		if st, _ := f[0].Status("backend"); st.State == circuit.Open {
			return true
		}
		for _, m := range f {
			if p, err := m.Acquire(); err == nil {
				p.Failure()
			}
		}
		return false
	}, "the fleet opens")
}

// logged collects what is logged.
func logged(t *testing.T) func() string {
	t.Helper()
	var mu sync.Mutex
	var text bytes.Buffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(writer(func(b []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return text.Write(b)
	}), nil)))
	t.Cleanup(func() { slog.SetDefault(before) })
	return func() string {
		mu.Lock()
		defer mu.Unlock()
		return text.String()
	}
}

type writer func([]byte) (int, error)

func (w writer) Write(b []byte) (int, error) { return w(b) }

// patience limits each wait. No step takes as long, on a machine under load.
const patience = time.Minute

// eventually waits until is returns true, and returns how long that took.
func eventually(t *testing.T, is func() bool, what string, args ...any) time.Duration {
	t.Helper()
	began := time.Now()
	servertest.Until(t, fmt.Sprintf(what, args...), is)
	return time.Since(began)
}

// receive returns what c receives next, and fails the test if that takes too long.
func receive[T any](t *testing.T, c <-chan T, what string, args ...any) T {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	select {
	case v := <-c:
		return v
	case <-ctx.Done():
		t.Fatalf("not within %v: %s", patience, fmt.Sprintf(what, args...))
		panic("unreachable")
	}
}
