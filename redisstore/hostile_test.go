package redisstore_test

import (
	"context"
	"runtime/metrics"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	inner "github.com/seed-0f2c7998/perdure/internal/breakers"
	"github.com/seed-0f2c7998/perdure/internal/servertest"
	"github.com/seed-0f2c7998/perdure/redisstore"
)

// No reply ends the process, fills its memory, or makes a call fail: the Store logs once
// what is wrong, decides alone, and connects again from time to time. Each reply is sent
// in one piece and byte by byte, in turns.
func TestHostileReplies(t *testing.T) {
	text := logged(t)
	peak := watchMemory(t)
	var closing sync.WaitGroup
	t.Run("all", func(all *testing.T) {
		hostile := slices.Clone(hostile)
		for _, c := range hostileValues {
			hostile = append(hostile, struct{ what, command, reply, want string }{c.what, "EVALSHA", blobs(c.view), c.want})
		}
		// They wait more than they work, so many run at a time, whatever the number of cores.
		var running sync.WaitGroup
		places := make(chan struct{}, 16)
		for i, c := range append(hostile, hostileSentinels...) {
			srv := startImpostor(all, c.command, c.reply) // until all have ended: ports are not reused
			places <- struct{}{}
			running.Go(func() {
				defer func() { <-places }()
				all.Run(c.what, func(t *testing.T) {
					query := ""
					if i >= len(hostile) {
						query = "?master_set=main"
					}
					s := survive(t, srv, query, c.want)
					warned(t, text(), srv.Addr().String(), c.want)
					closing.Go(s.Close) // takes a second, for the pending reports
				})
			})
		}
		running.Wait()
	})
	closing.Wait()
	if mib := peak() >> 20; mib > 512 {
		t.Errorf("%d MiB were in use", mib)
	}
}

// survive uses a Store with the impostor.
func survive(t *testing.T, srv *impostor, query, want string) *redisstore.Store {
	t.Helper()
	s, err := redisstore.Open(redisstore.Options{
		URL: "redis://user:hunter2@" + srv.Addr().String() + query, Sync: 100 * time.Millisecond, Stale: 400 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	b := circuit.New("backend", circuit.Config{
		Store: s, FailureThreshold: 1, RecoveryTimeout: time.Millisecond, Observe: func(context.Context, circuit.Transition) {},
	})
	said := func() bool { return want == "" || s.Err() != nil && strings.Contains(s.Err().Error(), want) }
	eventually(t, said, "the Store says %q", want)
	fail(t, b)
	awaitProbe(t, b).Success()
	seen := srv.conns.Load()
	eventually(t, func() bool { return srv.conns.Load() >= seen+2 || want == "" }, "it comes back")
	eventually(t, said, "the Store still says %q", want)
	if err := s.Err(); err != nil && (strings.ContainsAny(err.Error(), "\x1b\x07") || strings.Contains(err.Error(), "hunter2")) {
		t.Errorf("a password or an escape is shown: %q", err)
	}
	return s
}

// warned checks what is logged of one server.
func warned(t *testing.T, text, addr, want string) {
	t.Helper()
	n := 0
	for line := range strings.Lines(text) {
		if strings.Contains(line, "level=WARN") && strings.Contains(line, addr) {
			n++
		}
		if strings.Contains(line, "hunter2") || strings.ContainsAny(line, "\x1b\x07") {
			t.Errorf("a password or an escape is shown: %q", line)
		}
	}
	if want != "" && n != 1 {
		t.Errorf("%d warnings of it, want 1", n)
	}
}

// watchMemory returns a function that returns the most memory that was in use.
func watchMemory(t *testing.T) (peak func() uint64) {
	t.Helper()
	var most atomic.Uint64
	ctx, stop := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() {
		sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
		servertest.Repeat(ctx, func() {
			metrics.Read(sample)
			most.Store(max(most.Load(), sample[0].Value.Uint64()))
		})
	})
	return func() uint64 { stop(); done.Wait(); return most.Load() }
}

// Invalid messages are ignored.
func TestHostileMessages(t *testing.T) {
	srv := startServer(t)
	o := brisk(srv)
	o.Sync, o.Stale = time.Hour, 2*time.Hour
	f := fleet(t, 2, o, circuit.Config{})
	changes := make(chan circuit.State, 100)
	circuit.New("backend", circuit.Config{Store: f[0].Store, Observe: func(_ context.Context, c circuit.Transition) { changes <- c.To }})
	c := srv.client()
	for _, h := range hostileValues {
		text := strings.ReplaceAll(h.view, `"state":"closed"`, `"state":"isolated","gen":99`)
		if err := c.Do(t.Context(), c.B().Publish().Channel("circuit_breaker:changes").Message(text).Build()).Error(); err != nil {
			t.Fatal(err)
		}
	}
	f[1].Trip()
	if first := <-changes; first != circuit.Open {
		t.Errorf("it is %v, by a message that no script publishes", first)
	}
}

// What is in a hash is not believed either.
func TestHostileHashes(t *testing.T) {
	srv := startServer(t)
	c := srv.client()
	for _, h := range []struct{ field, value, want string }{
		{"state", "bogus", `invalid value "bogus" for state`},
		{"until", "x", "invalid value -1 for open: must be"},
		{"until", "-5", "invalid value -1 for open: must be"},
		{"until", "9223372036854775807", "for open"},
		{"until", "9223372036854775808", "invalid value -1 for open: must be"},
		{"lease.till", "9223372036854775807", "for lease"},
		{"lease.node", "\x1b]0;x\x07\nINFO: forged", "for node"},
		{"epoch", "", "for epoch"},
		{"epoch", "\xff", "for epoch"},
	} {
		set := c.B().Hset().Key("circuit_breaker:backend").FieldValue()
		for field, value := range written("1") {
			set = set.FieldValue(field, value)
		}
		in := strconv.FormatInt(time.Now().Add(time.Hour).UnixMilli(), 10)
		set = set.FieldValue("lease.process", "1-x").FieldValue("lease.node", "n").FieldValue("lease.till", in)
		if err := c.Do(t.Context(), set.FieldValue(h.field, h.value).Build()).Error(); err != nil {
			t.Fatal(err)
		}
		if seen, err := redisstore.Inspect(t.Context(), brisk(srv), []string{"backend"}); err == nil || !strings.Contains(err.Error(), h.want) {
			t.Errorf("%s %q: %+v, %v; want %q", h.field, h.value, seen, err, h.want)
		}
	}
}

// A server that grants more and more makes no budget larger than its ceiling. The budget
// used to pay for any number of retries.
func TestHostileGrants(t *testing.T) {
	srv := startImpostor(t, "EVALSHA", blobs(view(`,"granted":65000,"limit":65000,"fair_share":0,"available":65000`)))
	s := open(t, redisstore.Options{URL: "redis://" + srv.Addr().String(), Sync: 10 * time.Millisecond, Stale: time.Second})
	b := circuit.New("backend", circuit.Config{Store: s, Budget: 10})
	ready(t, s)
	for range 100 {
		before := srv.attacks.Load()
		eventually(t, func() bool { return srv.attacks.Load() > before }, "the server gets a request")
		if got, _ := inner.Balance(b); got > 10*circuit.Token {
			t.Fatalf("%d twentieths of a token, want at most 200", got)
		}
	}
}
