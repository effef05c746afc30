package livestorm_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/livestorm"
	"github.com/seed-0f2c7998/perdure/internal/servertest"
	"github.com/seed-0f2c7998/perdure/sim"
)

// In each fault a client gets what the simulated one gets, and after Close only errors of the connection.
func TestFaults(t *testing.T) {
	const lasts = time.Hour
	for kind, want := range map[sim.Kind]livestorm.StatusError{
		sim.Outage:   {Status: 503},
		sim.Crash:    {}, // an error of the connection
		sim.Throttle: {Status: 429, After: time.Second},
		sim.Errors:   {Status: 500},
		sim.Brownout: {Status: 200}, // as in no fault
	} {
		fault := sim.Fault{Kind: kind, To: lasts, Level: 0.5}
		if kind == sim.Throttle {
			fault.RetryAfter, fault.Level = want.After, 0.001 // of 250 a second
		}
		s := livestorm.At(200, sim.Storm(kind.String(), fault))
		s.Duration = lasts
		socket := filepath.Join(t.TempDir(), "backend")
		b, err := livestorm.Start(s, time.Now(), socket, 1, nil)
		if err != nil {
			t.Fatal(err)
		}
		worked := make(chan bool, 100)
		link := &livestorm.Link{Socket: socket, Worked: func(took time.Duration, wasted bool) { worked <- took > 0 && !wasted }}
		attempt := func() livestorm.StatusError {
			err := link.Do(t.Context())
			if err == nil {
				if !<-worked {
					t.Errorf("%v: a success without work", kind)
				}
				return livestorm.StatusError{Status: 200}
			}
			e, _ := errors.AsType[livestorm.StatusError](err)
			return e
		}
		servertest.Until(t, kind.String()+" has its effect", func() bool { return attempt() == want })
		b.Close()
		if got := attempt(); got != (livestorm.StatusError{}) {
			t.Errorf("%v: after Close the response is %+v", kind, got)
		}
	}
}

// Operations arrive at the rate of the scenario until it ends, each with the deadline of its clients.
func TestArrive(t *testing.T) {
	s := livestorm.At(2000, sim.Storm("healthy"))
	if s.Backend.Workers != 50 || s.Backend.Queue != 2500 {
		t.Errorf("the backend of 2000/s has %d workers and a queue of %d, want 50 and 2500", s.Backend.Workers, s.Backend.Queue)
	}
	s.Duration = 100 * time.Millisecond
	start := time.Now().Add(100 * time.Millisecond) // Arrive begins before it, or operations would be left out
	arrived := make(chan time.Duration, 1000)
	livestorm.Arrive(t.Context(), s, start, 1, func(ctx context.Context, at, late time.Duration) {
		if _, ok := ctx.Deadline(); !ok || late < 0 {
			t.Errorf("an operation at %v has a deadline: %t, and is %v late", at, ok, late)
		}
		arrived <- at
	})
	if n := len(arrived); n < 150 || n > 250 {
		t.Errorf("%d operations, want about 200", n)
	}
}
