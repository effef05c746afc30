package watchdog_test

import (
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure/httpretry/internal/watchdog"
)

func TestDog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var kennel watchdog.Kennel
		for range 3 { // dogs come back
			d := kennel.Get()
			for _, tt := range []struct {
				silence time.Duration
				barks   bool
			}{
				{0, false},
				{999 * time.Millisecond, false},
				{1001 * time.Millisecond, true},
				{time.Hour, true},
				{time.Millisecond, false},
			} {
				ours, theirs := net.Pipe()
				speak := time.AfterFunc(tt.silence, func() { _, _ = io.WriteString(theirs, "x") })
				d.Watch(ours, time.Second)
				_, err := ours.Read(make([]byte, 1))
				if barked := d.Leave(); barked != tt.barks || (err != nil) != tt.barks {
					t.Errorf("silent for %v: barked is %t, the read gave %v", tt.silence, barked, err)
				}
				speak.Stop()
				ours.Close()
				theirs.Close()
			}
			kennel.Put(d)
		}
	})
}

// A dog whose timer fires just as it is left must not close what it watches next.
func TestLateBark(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var kennel watchdog.Kennel
		d := kennel.Get()
		for range 1000 {
			first, second := new(target), new(target)
			d.Watch(first, time.Second)
			<-time.After(time.Second) // both timers are due now, in any order
			d.Leave()
			d.Watch(second, time.Second)
			synctest.Wait()
			if d.Leave() || second.closed {
				t.Fatal("closed the wrong one")
			}
		}
	})
}

type target struct{ closed bool }

func (c *target) Close() error { c.closed = true; return nil }
