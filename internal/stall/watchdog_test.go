package stall

import (
	"testing"
	"testing/synctest"
	"time"
)

// A watchdog whose timer fires during stop must not close its next target.
func TestLateTimer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var pool Pool
		d := pool.get()
		for range 1000 {
			first, second := new(target), new(target)
			d.watch(first, time.Second)
			<-time.After(time.Second) // both timers are due now, in any order
			d.stop()
			d.watch(second, time.Second)
			synctest.Wait()
			if d.stop() || second.closed {
				t.Fatal("closed the wrong one")
			}
		}
	})
}

type target struct{ closed bool }

func (c *target) Close() error { c.closed = true; return nil }
