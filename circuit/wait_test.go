package circuit

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Calls that wait are counted by all who share the breaker, and reported once for each
// limit and process.
func TestCallsThatWaitAtAGateAreSeen(t *testing.T) {
	for _, shared := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			var log bytes.Buffer
			c := Config{Gate: Wait, Observe: LogTo(slog.New(slog.NewTextHandler(&log, nil)))}
			if shared {
				c.Store = &Memory{}
			}
			here := gated(t, c)
			here.Reset() // which changes nothing: it is not limited
			there := New("s", c)
			for limits := range 2 {
				before := here.Metrics()
				limitedAt(t, here)
				log.Reset()
				var calls sync.WaitGroup
				for i := range 30 {
					calls.Go(func() {
						patience := time.Second
						if i < 10 {
							patience = 20 * time.Millisecond // which end before there is a probe
						}
						ctx, cancel := context.WithTimeout(t.Context(), patience)
						defer cancel()
						_ = here.Do(ctx, func(ctx context.Context) error { pause(ctx, 20*time.Millisecond); return nil })
					})
				}
				synctest.Wait()
				m, seen := here.Metrics(), there.Metrics()
				if m.Waiting != 30 || m.AtGate != 30 || shared && (seen.AtGate != 30 || seen.Waiting != 0) {
					t.Errorf("of 30 calls %d wait, %d in all; there %d in all", m.Waiting, m.AtGate, seen.AtGate)
				}
				pause(t.Context(), 5*time.Millisecond)
				synctest.Wait() // who is admitted just now has gone
				if m = here.Metrics(); m.Waiting != m.AtGate || m.OldestWait != 5*time.Millisecond {
					t.Errorf("%d calls wait, %d in all, the oldest for %v", m.Waiting, m.AtGate, m.OldestWait)
				}
				calls.Wait()
				m = here.Metrics()
				admitted := m.Credits - before.Credits + m.Probes - before.Probes
				switch {
				case m.AtGate != 0, m.Waiting != 0, m.OldestWait != 0:
					t.Errorf("in the end %d calls wait: %+v", m.AtGate, m)
				case m.Waits-before.Waits != 30, m.Abandoned-before.Abandoned < 5, m.Waited-before.Waited <= 0:
					t.Errorf("of 30 calls: %+v", m)
				case admitted < 5, m.Credits == before.Credits, m.Probes == before.Probes:
					t.Errorf("%d calls are admitted: %+v", admitted, m)
				}
				text := log.String()
				if lines := strings.Count(text, "calls wait at its gate"); lines != 1 || !strings.Contains(text, "level=INFO msg=\"Circuit breaker 's' is open: calls wait at its gate\" event=queued breaker=s") {
					t.Errorf("limit %d: %d lines about it in %s", limits+1, lines, text)
				}
				here.Reset()
			}
		})
	}
}

// The calls of a process that was killed while they waited are not counted after the limit
// is lifted.
func TestCallsOfAKilledProcessAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := gated(t, Config{Gate: Wait})
		limitedAt(t, b)
		c := b.cell.Load()
		b.countWait(c) // and never ends
		if n := b.Metrics().AtGate; n != 1 {
			t.Fatalf("%d calls wait, want 1", n)
		}
		ended := b.countWait(c)
		b.Reset()
		if n := b.Metrics().AtGate; n != 0 {
			t.Errorf("after the limit %d calls wait", n)
		}
		limitedAt(t, b)
		ended(true) // one of before
		b.countWait(c)
		if n := b.Metrics().AtGate; n != 1 {
			t.Errorf("%d calls wait in the next limit, want 1", n)
		}
	})
}
