package stall_test

import (
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/stall"
)

// A beat is a number of bytes after a time.
type beat struct {
	after time.Duration
	bytes int
}

func every(d time.Duration, bytes, times int) []beat {
	beats := make([]beat, times)
	for i := range beats {
		beats[i] = beat{d, bytes}
	}
	return beats
}

func join(all ...[]beat) (beats []beat) {
	for _, b := range all {
		beats = append(beats, b...)
	}
	return beats
}

// play returns a connection that delivers the beats and then ends.
func play(t *testing.T, beats []beat) net.Conn {
	t.Helper()
	ours, theirs := net.Pipe()
	left := make(chan struct{})
	t.Cleanup(func() {
		close(left)
		ours.Close()
	})
	go func() {
		defer theirs.Close()
		for _, b := range beats {
			select {
			case <-time.After(b.after):
			case <-left:
				return
			}
			if _, err := theirs.Write(make([]byte, b.bytes)); err != nil {
				return
			}
		}
	}()
	return ours
}

func TestLimits(t *testing.T) {
	const second, minute = time.Second, time.Minute
	timeout, rate := stall.Limits{Timeout: 20 * second}, stall.Limits{MinRate: 1024}
	for _, tt := range []struct {
		name   string
		limits stall.Limits
		beats  []beat
		pause  time.Duration // of the reader, between reads
		ends   time.Duration // after so long, if not well
		want   string
	}{
		{name: "none", beats: []beat{{time.Hour, 1}}},
		{name: "in time", limits: timeout, beats: every(19*second, 1, 100)},
		{name: "nothing", limits: timeout, beats: []beat{{second, 5}, {time.Hour, 1}}, ends: 21 * second, want: "no data for 20s"},
		{name: "a byte a second", limits: timeout, beats: every(second, 1, 1000)},
		{
			name: "a byte a second, and a rate", limits: rate, beats: every(second+1, 1, 1000), ends: minute,
			want: "59 bytes in 1m0s, which is less than 1024 bytes/s",
		},
		{name: "just enough", limits: rate, beats: every(second-1, 1024, 1000)},
		{name: "just not enough", limits: rate, beats: every(second+1, 1023, 1000), ends: minute, want: "60357 bytes in 1m0s, which is less than 1024 bytes/s"},
		{name: "enough on average", limits: rate, beats: every(50*second, 100<<10, 20)},
		{name: "all at first", limits: rate, beats: []beat{{second, 100 << 10}, {time.Hour, 1}}, ends: 2 * minute, want: "0 bytes in 1m0s, which is less than 1024 bytes/s"},
		{name: "slow later", limits: rate, beats: join(every(second+1, 3000, 90), every(second+1, 1, 1000)), ends: 3*minute + 120, want: "59 bytes in 1m0s, which is less than 1024 bytes/s"},
		{name: "short and slow", limits: rate, beats: every(second, 1, 59)},
		{name: "a slow reader", limits: rate, beats: every(0, 1, 100), pause: minute},
		{name: "another window", limits: stall.Limits{MinRate: 10, Window: 5 * second}, beats: every(second+1, 9, 1000), ends: 5 * second, want: "36 bytes in 5s, which is less than 10 bytes/s"},
		{name: "both, silence first", limits: stall.Limits{Timeout: 20 * second, MinRate: 1024}, beats: []beat{{time.Hour, 1}}, ends: 20 * second, want: "no data for 20s"},
		{name: "both, the window first", limits: stall.Limits{Timeout: 20 * second, MinRate: 1024}, beats: every(19*second, 1, 100), ends: minute, want: "3 bytes in 1m0s, which is less than 1024 bytes/s"},
	} {
		for _, pool := range []*stall.Pool{nil, new(stall.Pool)} {
			t.Run(tt.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					g := stall.Guard{Limits: tt.limits, Pool: pool}
					body := play(t, tt.beats)
					began, got, want := time.Now(), 0, 0
					for _, b := range tt.beats {
						want += b.bytes
					}
					n, err := 0, error(nil)
					for err == nil {
						n, err = g.Read(body, make([]byte, 1<<20))
						got += n
						if tt.pause > 0 {
							<-time.After(tt.pause)
						}
					}
					if tt.want == "" {
						if err != io.EOF || got != want { //nolint:errorlint // exactly
							t.Errorf("%s: %d bytes, %v, want %d and the end", tt.name, got, err, want)
						}
						return
					}
					timeout, ok := errors.AsType[net.Error](err)
					if err.Error() != tt.want || !ok || !timeout.Timeout() || time.Since(began) != tt.ends {
						t.Errorf("%s: %q after %v, want the timeout %q after %v", tt.name, err, time.Since(began), tt.want, tt.ends)
					}
					if _, err := body.Read(make([]byte, 1)); !errors.Is(err, io.ErrClosedPipe) {
						t.Errorf("%s: the body is still open: %v", tt.name, err)
					}
					if stall.IsSlow(err) != (tt.limits.MinRate > 0 && timeout.Error() != "no data for 20s") {
						t.Errorf("%s: IsSlow(%v) is %t", tt.name, err, stall.IsSlow(err))
					}
				})
			})
		}
	}
}

// Before From, MinRate does not apply.
func TestFrom(t *testing.T) {
	for _, step := range []time.Duration{time.Second, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			g := stall.Guard{Limits: stall.Limits{MinRate: 1024, From: time.Now().Add(15 * time.Minute)}}
			body := play(t, every(step, 1, 10000))
			began, err := time.Now(), error(nil)
			for err == nil {
				_, err = g.Read(body, make([]byte, 10))
			}
			if took := time.Since(began); !stall.IsSlow(err) || took < 15*time.Minute || took > 16*time.Minute {
				t.Errorf("a byte every %v: %v after %v, want it to be slow after 15m", step, err, took)
			}
		})
	}
}

// end is called once after a missed limit, and at Close.
func TestReaderEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := 0
		r := stall.NewReader(play(t, []beat{{time.Hour, 1}}), stall.Limits{Timeout: time.Second}, func() { ended++ })
		if _, err := r.Read(make([]byte, 1)); err == nil || ended != 1 {
			t.Errorf("a body that stalls: %v, ended %d times, want an error and once", err, ended)
		}
		if err := r.Close(); err != nil || ended != 2 {
			t.Errorf("Close: %v, ended %d times", err, ended)
		}
		if r := stall.NewReader(play(t, nil), stall.Limits{}, nil); r.Close() != nil {
			t.Error("Close without an end fails")
		}
	})
}
