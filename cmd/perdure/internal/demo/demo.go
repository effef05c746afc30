// Package demo shows in 15 seconds what the project is for: a pipeline copies data from an
// HTTP API to files and to an S3 store, through servers that fail, and every byte arrives.
//
// The servers are real and run in this process. Their faults are drawn from a seed. The
// pipeline uses the public packages as any program does.
package demo

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/report"
	"github.com/seed-0f2c7998/perdure/retry"
)

// Options say how to run the demo.
type Options struct {
	Seed   uint64
	Keep   bool         // keep the servers running until ctx ends
	Pace   float64      // factor for all waits and the outage, except the server's Retry-After; 0 means 1
	Screen *Screen      // shows the demo; nil means nothing is shown
	Log    *slog.Logger // receives each event; nil means no log
	Self   string       // name of the command in examples; "" means perdure
}

// threshold is the number of consecutive failures that opens a breaker.
const threshold = 5

// times are the durations of one run.
type times struct {
	base, jitter   time.Duration // of all policies: short, so that a run takes seconds
	attemptTimeout time.Duration // not changed by the pace: a busy machine responds no faster
	slow           time.Duration // delay of a slow response: longer than attemptTimeout
	recovery       time.Duration // of the breakers
	outage         time.Duration // long enough for the first probe to fail, except on a busy machine
}

func newTimes(pace float64) times {
	t := func(ms float64) time.Duration { return time.Duration(ms * pace * float64(time.Millisecond)) }
	return times{base: t(100), jitter: t(50), attemptTimeout: 800 * time.Millisecond, slow: 5 * time.Second, recovery: t(1000), outage: t(3100)}
}

// A run is one run of the demo.
type run struct {
	Options

	times    times
	servers  *servers
	ledger   *ledger
	pipeline *pipeline
	began    time.Time
	stations []station // that the pipeline has read
	bytes    int       // of all compared objects
}

// Run runs the demo. It returns nil if every byte arrived, or the cause of ctx if ctx has
// ended. It removes its files.
func Run(ctx context.Context, o Options) error {
	if o.Screen == nil {
		o.Screen = NewScreen(nil, false)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	o.Screen.broken = cancel // ends the demo if the screen cannot be written to
	dir, err := os.MkdirTemp("", "perdure-demo-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	o.Pace = cmp.Or(o.Pace, 1)
	times := newTimes(o.Pace)
	s, err := startServers(o.Seed, times.slow)
	if err != nil {
		return err
	}
	defer s.close()

	r := &run{Options: o, times: times, servers: s, ledger: newLedger(o, times), began: time.Now()}
	if r.pipeline, err = newPipeline(s, r.ledger, times, dir); err != nil {
		return err
	}
	r.introduce()
	for _, phase := range []func(context.Context) error{r.fetch, r.upload, r.outage, r.verify} {
		if err := phase(ctx); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return err
		}
	}
	r.summary()
	if o.Log != nil {
		r.log()
	}
	if o.Keep {
		return r.keep(ctx)
	}
	return nil
}

// fetch fetches all pages of the API into files.
func (r *run) fetch(ctx context.Context) error {
	phase := r.Screen.phase("Fetch", "Each page of the API is written to a file. Failed requests are retried, after\ngrowing waits, and never before a Retry-After is over.")
	n := 0
	for path := pagePath(1); path != ""; n++ {
		var got page
		err := r.ledger.do("fetch", func() (err error) {
			got, err = r.pipeline.fetch(ctx, path, pageFile(n+1))
			return err
		})
		if err != nil {
			return err
		}
		r.stations = append(r.stations, got.Stations...)
		path = got.Next
	}
	phase.end("%d pages with %d stations fetched", n, len(r.stations))
	return nil
}

// upload stores the files of the pages.
func (r *run) upload(ctx context.Context) error {
	phase := r.Screen.phase("Upload", "Each file is stored as an object. The AWS SDK sends; perdure decides on retries.")
	for n := range pages {
		err := r.store(ctx, pageFile(n+1), pageKey(n+1))
		if err != nil {
			return err
		}
	}
	phase.end("%d objects stored", pages)
	return nil
}

func (r *run) store(ctx context.Context, file, key string) error {
	return r.ledger.do("upload_to_s3", func() error { return r.pipeline.store(ctx, file, key) })
}

// outage stores tables made of the pages, while the store is down and then recovers. Failed
// uploads are repeated when the breaker may let them pass.
func (r *run) outage(ctx context.Context) error {
	phase := r.Screen.phase("Outage", fmt.Sprintf("The store is down for %v while the pipeline uploads %d tables. After %d\nconsecutive failures the circuit breaker opens: nothing more is sent.",
		r.times.outage, districts, threshold))
	var queue []int
	for n := range districts {
		queue = append(queue, n+1)
		if err := r.pipeline.write(tableFile(n+1), table(r.stations, n+1)); err != nil {
			return err
		}
	}
	r.servers.outage(r.times.outage)
	sent := r.servers.store.Count("", "")
	for round := 0; len(queue) > 0 && round < 10; round++ {
		var err error
		if queue, err = r.storeTables(ctx, queue); err != nil {
			return err
		}
	}
	if len(queue) > 0 {
		return errors.New("the circuit breaker did not close")
	}
	phase.end("%d more objects stored; the store got %d requests while it was down", districts,
		r.servers.store.Count("", "")-sent-districts)
	return nil
}

// storeTables makes one upload of each table, and returns the tables that failed. It waits
// until the breaker may let calls pass.
func (r *run) storeTables(ctx context.Context, queue []int) (later []int, err error) {
	var open *circuit.OpenError
	before := r.ledger.refused("upload_to_s3")
	for _, n := range queue {
		err := r.store(ctx, tableFile(n), tableKey(n))
		e, shut := errors.AsType[*circuit.OpenError](err)
		switch {
		case err == nil:
			continue
		case shut:
			open = e
		case !errors.Is(err, retry.ErrExhausted):
			return nil, err
		}
		later = append(later, n)
	}
	if open == nil {
		return later, nil
	}
	wait := max(time.Until(open.RetryAt), 0)
	r.Screen.note("%d uploads refused at once; the breaker allows a probe in %.1f s",
		r.ledger.refused("upload_to_s3")-before, wait.Seconds())
	select {
	case <-time.After(wait + time.Millisecond):
	case <-ctx.Done():
	}
	return later, nil
}

// verify downloads every object and compares it with the data that the seed generates, not
// with the files of the pipeline.
func (r *run) verify(ctx context.Context) error {
	phase := r.Screen.phase("Verify", "Every object is downloaded, through more faults, and compared byte for byte\nwith the original data.")
	count := 0
	check := func(key string, want []byte) error {
		return r.ledger.do("download_from_s3", func() error {
			got, err := r.pipeline.load(ctx, key)
			if err == nil && !bytes.Equal(got, want) {
				err = fmt.Errorf("%s: the %d bytes that arrived are not the %d that were sent", key, len(got), len(want))
			}
			count++
			r.bytes += len(got)
			return err
		})
	}
	for n := range pages {
		if err := check(pageKey(n+1), r.servers.city.encoded(n+1)); err != nil {
			return err
		}
	}
	for n := range districts {
		if err := check(tableKey(n+1), table(r.servers.city.stations(), n+1)); err != nil {
			return err
		}
	}
	phase.end("%d of %d objects are identical, %s; %d downloads were resumed", count, pages+districts,
		report.Bytes(int64(r.bytes)), r.servers.resumed())
	return nil
}

func pageFile(n int) string  { return fmt.Sprintf("page-%02d.json", n) }
func pageKey(n int) string   { return "pages/" + pageFile(n) }
func tableFile(n int) string { return fmt.Sprintf("district-%02d.csv", n) }
func tableKey(n int) string  { return "tables/" + filepath.Base(tableFile(n)) }
