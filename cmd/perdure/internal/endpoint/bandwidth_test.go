package endpoint

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/stall"
)

// zeros delivers one byte after another, as much as is wanted.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }
func (zeros) Close() error               { return nil }

// All bodies of a session together pass at its bandwidth: within each second as much as it says, and in no moment more than a
// fifth of a second's bytes ahead. A simple count at each second is the twin.
func TestBandwidthIsOfAllBodiesTogether(t *testing.T) {
	for _, row := range []struct {
		rate   float64
		bodies int
		buffer int
	}{{1, 1, 4096}, {1024, 3, 1}, {1024, 64, 256 << 10}, {10 << 20, 16, 32 << 10}, {1 << 30, 4, 1 << 20}} {
		synctest.Test(t, func(t *testing.T) {
			s := &Session{Bandwidth: row.rate}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var mu sync.Mutex
			var group sync.WaitGroup
			begun, total := time.Now(), 0.0
			for range row.bodies {
				body, buffer := s.pace(ctx, zeros{}), make([]byte, row.buffer)
				group.Go(func() {
					for ctx.Err() == nil {
						n, err := body.Read(buffer)
						mu.Lock()
						total += float64(n)
						if most := row.rate*(time.Since(begun).Seconds()+0.2) + 1; err == nil && total > most {
							t.Errorf("%+v: %.0f bytes after %v, want %.0f at most", row, total, time.Since(begun), most)
							cancel()
						}
						if total >= 20*row.rate {
							cancel()
						}
						mu.Unlock()
					}
				})
			}
			group.Wait()
			if took := time.Since(begun).Seconds(); took < 19 || took > 21 {
				t.Errorf("%+v: what passes in 20 s took %.2f s", row, took)
			}
		})
	}
}

// A body that waits for its turn has not stalled, and is not slow, however many share a low bandwidth. One that delivers
// nothing has.
func TestBandwidthMakesNoStalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Session{Bandwidth: 2048}
		limits := stall.Limits{Timeout: 30 * time.Second, MinRate: 1024}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		var group sync.WaitGroup
		for range 256 {
			body := s.pace(ctx, stall.NewReader(zeros{}, limits, nil))
			group.Go(func() {
				for {
					_, err := body.Read(make([]byte, 4096))
					if errors.Is(err, context.DeadlineExceeded) {
						return
					}
					if err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		group.Wait()
		silent, w := io.Pipe()
		defer func() { _ = w.Close() }()
		_, err := s.pace(t.Context(), stall.NewReader(silent, limits, nil)).Read(make([]byte, 1))
		if _, ok := errors.AsType[*stall.Error](err); !ok {
			t.Errorf("a silent body: %v, want a stall", err)
		}
	})
}

// The wait for a turn ends when its request does, with the cause.
func TestBandwidthEndsWithTheRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Session{Bandwidth: 1}
		cause := errors.New("interrupted")
		ctx, cancel := context.WithCancelCause(t.Context())
		body, begun := s.pace(ctx, zeros{}), time.Now()
		time.AfterFunc(5*time.Second/2, func() { cancel(cause) })
		var err error
		for err == nil {
			_, err = body.Read(make([]byte, 10))
		}
		if took := time.Since(begun); !errors.Is(err, cause) || took != 5*time.Second/2 {
			t.Errorf("%v after %v, want %v after 2.5s", err, took, cause)
		}
	})
}

// After a pause no more than a tenth of a second's bytes pass at once.
func TestBandwidthSavesNothingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Session{Bandwidth: 1000}
		body := s.pace(t.Context(), zeros{})
		_, _ = body.Read(make([]byte, 1))
		pause, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		<-pause.Done()
		begun := time.Now()
		if _, err := io.CopyN(io.Discard, body, 1000); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begun); took < 850*time.Millisecond || took > time.Second {
			t.Errorf("1000 bytes at 1000 a second took %v after a pause", took)
		}
	})
}
