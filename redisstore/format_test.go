package redisstore_test

import (
	"context"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/redisstore"
)

// hashOf returns the hash of a breaker, and its time to live in milliseconds.
func hashOf(t *testing.T, c rueidis.Client, key string) (map[string]string, int64) {
	t.Helper()
	hash, err := c.Do(t.Context(), c.B().Hgetall().Key(key).Build()).AsStrMap()
	if err != nil {
		t.Fatal(err)
	}
	ttl, err := c.Do(t.Context(), c.B().Pttl().Key(key).Build()).AsInt64()
	if err != nil {
		t.Fatal(err)
	}
	return hash, ttl
}

// written returns a hash as a release without formats wrote it: open for an hour.
func written(format string) map[string]string {
	in := func(d time.Duration) string { return strconv.FormatInt(time.Now().Add(d).UnixMilli(), 10) }
	hash := map[string]string{
		"epoch": "OLD", "gen": "7", "state": "open", "since": in(0), "until": in(time.Hour), "reason": "5", "hand": "0",
		"alive.old": in(time.Minute), "vote.old": in(time.Hour), "budget": "20", "share.c": "20 " + in(time.Hour),
	}
	if format != "" {
		hash["format"] = format
	}
	return hash
}

// Two releases side by side: a process that finds a hash of another format does not share
// that key, logs one warning, and does not change the hash; it shares other keys. It
// shares the key after the hash is deleted.
func TestOtherFormats(t *testing.T) {
	for _, format := range []string{"", "0", "2", "10", "later"} {
		t.Run("format="+format, func(t *testing.T) {
			text := logged(t)
			srv := startServer(t)
			c := srv.client()
			var want map[string]string
			for _, name := range []string{"backend", "another"} {
				set := c.B().Hset().Key("circuit_breaker:" + name).FieldValue()
				want = written(format)
				for field, value := range want {
					set = set.FieldValue(field, value)
				}
				if err := c.Do(t.Context(), set.Build()).Error(); err != nil {
					t.Fatal(err)
				}
			}
			want, _ = hashOf(t, c, "circuit_breaker:backend")
			s, b := foreign(t, srv)
			shareOwn(t, srv, s)
			scripts, _ := scriptsRun(t, c)
			eventually(t, func() bool { n, _ := scriptsRun(t, c); return n > scripts+10 }, "the server is read")
			if got, ttl := hashOf(t, c, "circuit_breaker:backend"); !maps.Equal(got, want) || ttl != -1 {
				t.Errorf("the hash is %v, ends in %d ms, want %v", got, ttl, want)
			}
			seen, err := redisstore.Inspect(t.Context(), brisk(srv), []string{"backend", "own"})
			if about := fmt.Sprintf("has format %q, and this release uses", format); err == nil || !strings.Contains(err.Error(), about) ||
				s.Err() == nil || !strings.Contains(s.Err().Error(), about) {
				t.Errorf("Inspect: %v; Err: %v; want %s", err, s.Err(), about)
			}
			if _, ok := seen["own"]; len(seen) != 1 || !ok {
				t.Errorf("Inspect has %v, want that of own", seen)
			}
			if text := text(); strings.Count(text, "level=WARN") != 1 {
				t.Errorf("want one warning:\n%s", text)
			}
			b.Isolate()
			c.Do(t.Context(), c.B().Del().Key("circuit_breaker:backend", "circuit_breaker:another").Build())
			eventually(t, func() bool {
				st, _ := s.Status("backend")
				return st.State == circuit.Isolated && s.Err() == nil
			}, "it is shared when the hash is gone")
		})
	}
}

// foreign uses breakers whose hashes have another format.
func foreign(t *testing.T, srv *server) (*redisstore.Store, *circuit.Breaker) {
	t.Helper()
	s := open(t, brisk(srv))
	cfg := circuit.Config{
		Store: s, FailureThreshold: 1, RecoveryTimeout: time.Millisecond, Budget: 10, Observe: func(context.Context, circuit.Transition) {},
	}
	circuit.New("another", cfg)
	b := circuit.New("backend", cfg)
	ready(t, s)
	if b.State() != circuit.Closed {
		t.Errorf("it is %v, by a hash of another format", b.State())
	}
	if _, responded := s.Status("backend"); !responded.IsZero() {
		t.Error("there is a status from a hash of another format")
	}
	for range 3 {
		fail(t, b)
		awaitProbe(t, b).Success()
	}
	b.Isolate()
	b.Reset()
	s.Reset("backend")
	return s, b
}

// shareOwn checks that a breaker whose hash has this format is shared, whatever a process
// of another release publishes about it.
func shareOwn(t *testing.T, srv *server, s *redisstore.Store) {
	t.Helper()
	c := srv.client()
	own := circuit.New("own", circuit.Config{Store: s, Observe: func(context.Context, circuit.Transition) {}})
	ready(t, s)
	message := `{"key":"circuit_breaker:own","epoch":"OLD","gen":99,"state":"isolated","hand":true,"open":0,"lease":0,"ago":0}`
	if err := c.Do(t.Context(), c.B().Publish().Channel("circuit_breaker:changes").Message(message).Build()).Error(); err != nil {
		t.Fatal(err)
	}
	o := brisk(srv)
	o.Node = "other"
	other := open(t, o)
	twin := circuit.New("own", circuit.Config{Store: other, Observe: func(context.Context, circuit.Transition) {}})
	ready(t, other)
	twin.Trip()
	eventually(t, func() bool { return own.State() == circuit.Open }, "own is shared")
	if err := own.Do(t.Context(), func(context.Context) error { return nil }); err == nil {
		t.Error("own lets a call pass")
	}
}
