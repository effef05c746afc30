// Package demo shows, in a quarter of a minute, what this project is for: a
// pipeline carries data from an HTTP API to files to an S3 store, through
// servers that fail, and every byte arrives.
//
// Nothing in it is faked. The servers are real ones, in this process; what goes
// wrong with them is dealt from a seed. The pipeline makes the library calls
// that any user would make.
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
	"github.com/seed-0f2c7998/perdure/retry"
)

// Options say how to run the demo.
type Options struct {
	Seed   uint64
	Keep   bool         // leave the servers up until ctx ends
	Pace   float64      // factor of every time but the server's Retry-After; 0 means 1
	Screen *Screen      // nil: none
	Log    *slog.Logger // gets each event; nil: none
	Self   string       // how the user calls this command; "" means perdure
}

// threshold is how many failures in a row open a breaker.
const threshold = 5

// Times are those of one course.
type times struct {
	base, jitter   time.Duration // of every policy, so that a course takes seconds
	attemptTimeout time.Duration
	slow           time.Duration // how late a slow answer comes: later than an attempt may take
	recovery       time.Duration // of the breakers
	outage         time.Duration // long enough for the first probe to fail
}

func newTimes(pace float64) times {
	t := func(ms float64) time.Duration { return time.Duration(ms * pace * float64(time.Millisecond)) }
	return times{base: t(100), jitter: t(50), attemptTimeout: t(800), slow: t(5000), recovery: t(1000), outage: t(3100)}
}

// A run is one course of the demo.
type run struct {
	Options

	times    times
	servers  *servers
	ledger   *ledger
	pipeline *pipeline
	began    time.Time
	stations []station // as the pipeline has read them
	bytes    int       // of all objects that were compared
}

// Run runs the demo. It returns nil if every byte arrived, the cause of ctx if
// that has ended, and what went wrong otherwise. It leaves nothing behind.
func Run(ctx context.Context, o Options) error {
	if o.Screen == nil {
		o.Screen = NewScreen(nil, false)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	o.Screen.broken = cancel // nobody watches any more
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

// fetch follows the pages of the API.
func (r *run) fetch(ctx context.Context) error {
	phase := r.Screen.phase("Fetch", "Pages from the API, each into a file. What fails is repeated, later each\ntime, and never before the server's Retry-After is over.")
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
	phase.end("%d pages with %d stations are files", n, len(r.stations))
	return nil
}

// upload stores the pages as they came.
func (r *run) upload(ctx context.Context) error {
	phase := r.Screen.phase("Upload", "The files to the S3 store. The AWS SDK signs and sends; perdure decides.")
	for n := range pages {
		err := r.store(ctx, pageFile(n+1), pageKey(n+1))
		if err != nil {
			return err
		}
	}
	phase.end("%d objects are stored", pages)
	return nil
}

func (r *run) store(ctx context.Context, file, key string) error {
	return r.ledger.do("upload_to_s3", func() error { return r.pipeline.store(ctx, file, key) })
}

// outage stores tables made of the pages, while the store goes down and comes
// back. What could not be stored is tried again when the breaker says so.
func (r *run) outage(ctx context.Context) error {
	phase := r.Screen.phase("Outage", fmt.Sprintf("The store goes down for %v. The pipeline has %d tables to upload, and does\nnot know. After %d failures in a row the breaker opens: nothing more is sent.",
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
		return errors.New("the breaker did not recover")
	}
	phase.end("%d more objects are stored; while down, the store got %d requests", districts,
		r.servers.store.Count("", "")-sent-districts)
	return nil
}

// storeTables tries each table once, and returns those to be tried again. It
// waits until it makes sense.
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
	wait := time.Until(open.RetryAt)
	r.Screen.note("%d uploads are refused at once; again in %.1f s, as the breaker says",
		r.ledger.refused("upload_to_s3")-before, wait.Seconds())
	select {
	case <-time.After(wait + time.Millisecond):
	case <-ctx.Done():
	}
	return later, nil
}

// verify gets every object and compares it with what the seed says it must be,
// not with what the pipeline made of it.
func (r *run) verify(ctx context.Context) error {
	phase := r.Screen.phase("Verify", "Every object comes back, through more faults, and is compared byte for byte\nwith what it must be.")
	count := 0
	check := func(key string, want []byte) error {
		return r.ledger.do("download_from_s3", func() error {
			got, err := r.pipeline.load(ctx, key)
			if err == nil && !bytes.Equal(got, want) {
				err = fmt.Errorf("%s: %d bytes arrived, and they are not the %d that were made", key, len(got), len(want))
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
	phase.end("%d of %d objects are identical, %d bytes; %d went on where they were cut", count, pages+districts,
		r.bytes, r.servers.resumed())
	return nil
}

func pageFile(n int) string  { return fmt.Sprintf("page-%02d.json", n) }
func pageKey(n int) string   { return "pages/" + pageFile(n) }
func tableFile(n int) string { return fmt.Sprintf("district-%02d.csv", n) }
func tableKey(n int) string  { return "tables/" + filepath.Base(tableFile(n)) }
