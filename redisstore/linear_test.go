package redisstore

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/redis/rueidis"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/fleet"
	"github.com/seed-0f2c7998/perdure/internal/fleet/twin"
	"github.com/seed-0f2c7998/perdure/internal/servertest"
	"github.com/seed-0f2c7998/perdure/internal/testseed"
)

// An act is one script that a process runs, or the end of the lease or of the open time.
type act struct {
	process string
	script  string
	token   int64
	state   circuit.State
	due     bool  // the open time that it sets elapses at once
	ago     int64 // of override: seconds since it was set
}

// noon is the second in which all acts of a history happen to the twin.
const noon = 1 << 30

// A seen is the response to an act.
type seen struct {
	known   bool // false if there was no response: the script may run at any time, or never
	gen     int64
	state   circuit.State
	due     bool
	manual  bool
	process string
}

// do runs a on the twin.
func (a act) do(s *twin.Record) seen {
	s.Now = noon
	switch a.script {
	case "trip":
		s.Trip(false)
	case "lease":
		s.Lease(a.process)
	case "settle":
		s.Settle(a.process, a.token, a.state, a.due)
	case "release":
		s.Release(a.process, a.token)
	case "override":
		s.Override(a.state, a.due, noon-a.ago)
	case "expire":
		s.Leased = false
	case "ripen":
		s.Due = true
	}
	process := ""
	if s.Leased {
		process = s.Owner
	}
	return seen{true, s.Gen, s.State, s.Due || s.State != circuit.Open, s.Manual, process}
}

// linear returns the twin as a model of porcupine: an order of the acts must exist in
// which the twin returns what the server has returned.
func linear() porcupine.Model {
	return porcupine.Model{
		Init: func() any { return twin.Record{} },
		Step: func(state, input, output any) (bool, any) {
			s := state.(twin.Record)
			got := input.(act).do(&s)
			want := output.(seen)
			return !want.known || got == want, s
		},
		DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v -> %+v", input, output) },
	}
}

// An actor runs acts on a real server.
type actor struct {
	*link

	racy bool // leases are read and taken in two commands
}

// act runs a on the server, and returns the response.
func (p *actor) act(ctx context.Context, a act) (s seen, err error) {
	left := time.Hour
	if a.due {
		left = 0
	}
	calls := map[string]fleet.Call{
		"read": {Op: fleet.Read}, "trip": {Op: fleet.Trip, Open: time.Hour, Quorum: 1, Reason: "0"},
		"lease":    {Op: fleet.Lease, Lease: fleet.LeaseRequest{Length: time.Hour, Idle: time.Hour}},
		"settle":   {Op: fleet.Settle, Token: a.token, State: a.state, Open: left, Reason: "0"},
		"release":  {Op: fleet.Release, Token: a.token},
		"override": {Op: fleet.Override, State: a.state, Open: left, Reason: "0", Ago: time.Duration(a.ago) * time.Second},
	}
	b, name, process := p.client.B(), p.prefix+"x", p.member.Process
	read := func(script string) (seen, error) {
		c := calls[script]
		c.Key = "x"
		r := p.Run(ctx, []fleet.Call{c})[0]
		v := r.View
		return seen{true, v.Gen, v.State, v.Open == 0, v.Manual, v.Process}, r.Err
	}
	switch {
	case a.script == "expire" || a.script == "ripen":
		field := map[string]string{"expire": "lease.till", "ripen": "until"}[a.script]
		return seen{}, p.client.Do(ctx, b.Hset().Key(name).FieldValue().FieldValue("format", format).FieldValue(field, "0").Build()).Error()
	case a.script == "lease" && p.racy:
		s, err := read("read")
		if err != nil || s.state != circuit.Open || !s.due || s.process != "" {
			return s, err
		}
		s.gen, s.process = s.gen+1, process
		return s, p.client.Do(ctx, b.Hset().Key(name).FieldValue().FieldValue("format", format).FieldValue("gen", number(s.gen)).
			FieldValue("lease.process", process).FieldValue("lease.node", p.member.Node).
			FieldValue("lease.till", strconv.FormatInt(time.Now().Add(time.Hour).UnixMilli(), 10)).Build()).Error()
	}
	return read(a.script)
}

// history runs acts of n processes at the same time, and records them.
func history(t *testing.T, addr string, n, acts int, seed uint64, racy bool) []porcupine.Operation {
	t.Helper()
	var mu sync.Mutex
	var ops []porcupine.Operation
	began := time.Now()
	var work sync.WaitGroup
	for i := range n {
		client, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{addr}, ForceSingleClient: true, DisableCache: true, DisableRetry: true})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(client.Close)
		name := fmt.Sprintf("p%d", i)
		p := &actor{&link{client, "linear:" + strconv.FormatUint(seed, 10) + ":", fleet.Member{Process: name, Node: name, Alive: 5 * time.Hour}, nil}, racy}
		work.Go(func() {
			u, last := rand.New(rand.NewPCG(seed, uint64(i))), seen{}
			for range acts {
				a := choose(u, p.member.Process, last)
				if racy && a.script == "expire" {
					a.script = "read"
				}
				op := porcupine.Operation{ClientId: i, Input: a, Call: time.Since(began).Nanoseconds()}
				// Some processes do not wait for the response.
				patience := 5 * time.Second
				if !racy && u.IntN(25) == 0 {
					patience = time.Duration(u.IntN(300)) * time.Microsecond
				}
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				s, err := p.act(ctx, a)
				cancel()
				op.Output, op.Return = s, time.Since(began).Nanoseconds()
				if err != nil {
					op.Output, op.Return = seen{}, math.MaxInt64
				} else if s.known {
					last = s
				}
				mu.Lock()
				ops = append(ops, op)
				mu.Unlock()
			}
		})
	}
	work.Wait()
	return ops
}

// choose returns an act that a process may choose after its last response.
func choose(u *rand.Rand, process string, last seen) act {
	a := act{process: process, script: []string{"read", "trip", "trip", "lease", "lease", "lease", "settle", "settle", "settle", "release", "override", "expire", "ripen", "ripen"}[u.IntN(14)]}
	a.due = u.IntN(4) > 0
	a.token = last.gen - int64(u.IntN(8)/7) // mostly its own
	a.state = []circuit.State{circuit.Closed, circuit.Open}[u.IntN(2)]
	if a.state == circuit.Closed || a.script == "override" && u.IntN(2) == 0 {
		a.state, a.due = circuit.Closed, true
	}
	if a.script == "override" && u.IntN(4) == 0 {
		a.ago = 10 * (1 + u.Int64N(1<<26)) // so no two are close
		if u.IntN(2) == 0 {
			a.state, a.due = circuit.Isolated, true
		}
	}
	return a
}

// Status returns the last status of the named breaker that the server has sent to s, and
// when the server last responded. Only tests need to know what a process knows.
func (s *Store) Status(name string) (fleet.Status, time.Time) { return s.fleet.Status(name) }

// ServerBinary is the server that tests start: redis-server, or the one that
// TestOtherServers names.
func ServerBinary() string { return cmp.Or(os.Getenv("PERDURE_TEST_SERVER"), "redis-server") }

// startRedis returns the address of a server for the test.
func startRedis(t *testing.T) string {
	t.Helper()
	if _, err := exec.LookPath(ServerBinary()); err != nil {
		t.Skip("redis-server is not installed: nothing is shown about a real server")
	}
	port, err := servertest.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), ServerBinary(), "--bind", "127.0.0.1", "--port", strconv.Itoa(port), "--save", "", "--dir", t.TempDir())
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // it is killed
	}()
	t.Cleanup(func() { _ = cmd.Process.Kill(); <-ended })
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	if err := servertest.Await(t.Context(), addr, ended); err != nil {
		t.Fatal(err)
	}
	return addr
}

// The twin that the model tests use returns what the scripts return.
func TestTwin(t *testing.T) {
	addr := startRedis(t)
	first := testseed.Of(t, 0)
	for seed := first; seed < first+5; seed++ {
		ops := history(t, addr, 1, 200, seed, false)
		if !porcupine.CheckOperations(linear(), ops) {
			t.Errorf("seed %d: the twin does not return what the server does", seed)
		}
	}
}

// Transitions of a fleet are linearizable: one order of them explains all responses. The
// test finds leases that are not taken in one step.
func TestLinear(t *testing.T) {
	addr := startRedis(t)
	first := testseed.Of(t, 100)
	for seed := first; seed < first+10; seed++ {
		ops := history(t, addr, 6, 40, seed, false)
		lost := 0
		for _, op := range ops {
			if op.Return == math.MaxInt64 {
				lost++
			}
		}
		result := porcupine.CheckOperationsTimeout(linear(), ops, 5*time.Minute)
		if t.Logf("seed %d: %d operations, %d without a response: %s", seed, len(ops), lost, result); result != porcupine.Ok {
			t.Errorf("seed %d: %s", seed, result)
		}
	}
	if !porcupine.CheckOperations(linear(), history(t, addr, 1, 200, 199, true)) {
		t.Error("leases taken in two steps are wrong even without other processes")
	}
	for seed := uint64(200); seed < 230; seed++ {
		if porcupine.CheckOperationsTimeout(linear(), history(t, addr, 6, 40, seed, true), time.Minute) == porcupine.Illegal {
			t.Logf("leases taken in two steps are found with seed %d", seed)
			return
		}
	}
	t.Error("leases taken in two steps are not found")
}
