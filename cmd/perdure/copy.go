package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/awsenv"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/copying"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/dagster"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/endpoint"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/exit"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/policy"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/progress"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/report"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/state"
	"github.com/seed-0f2c7998/perdure/internal/setting"
	"github.com/seed-0f2c7998/perdure/retry"
)

// copyText is the help of copy.
const copyText = `Copy SRC to DST, through failures.

SRC is a file, - for standard input, an http or https URL, or s3://BUCKET/KEY. DST is a file, - for
standard output, or s3://BUCKET/KEY. If DST is a directory, s3://BUCKET or a key that ends in a slash,
the name of SRC is appended. If there are several SRC, such as what a shell's *.csv expands to, DST must be
one of these. s3://BUCKET/2024-*/*.csv means the objects that match: * within a name, ** also across slashes,
and \* a star. With --from-file the sources are in a file, one in a line: CSV with the columns URL, name in DST
(the last part of the URL) and checksum, of which two are optional. Nothing is copied if a line is invalid. A
second run copies what is left: what failed, what DST no longer has as it was copied, and what the server does
not confirm, by its ETag or Last-Modified, to be unchanged. A file with a checksum is compared by it alone.

The copy succeeds only when DST is complete and verified. A file is written under a temporary name beside
DST and renamed when it is on the disk; an object is created whole or not at all. So when the copy fails,
DST is unchanged. Only bytes written to standard output, a pipe or a device cannot be taken back. The end
of standard input counts as complete: in a shell, set pipefail.

Large files are fetched in parallel ranges and sent in parts. When the copy fails, is interrupted or is
killed, run the same command to resume it; if SRC has changed, it starts from scratch. Partial downloads
are kept in a directory .perdure-* beside DST, if the response has a strong ETag or a Last-Modified that
identifies it. Uploaded parts are kept in the store, and their state in the state directory
(PERDURE_STATE, or ~/.local/state/perdure); perdure s3 clean removes both. --no-resume keeps nothing.
--checksum verifies SRC before DST is created.

An object gets the type, encoding and other attributes of SRC, but those that flags as --content-type,
--metadata or --acl set. From object to object, the store copies, unless --endpoint-url-dst or
--profile-dst names another one.

With -r, SRC is a directory and DST is s3://BUCKET/PREFIX, or the reverse, or both are s3://BUCKET/PREFIX:
all files below SRC are copied below DST; those of several SRC below the names of these, also into a directory. Files that DST has with the same size and checksum are skipped.
Checksums are kept in the state directory, so a file that has not changed is not read again, unless
--no-cache is given. --size-only compares sizes alone, --mtime sizes and modification times. Nothing is
deleted. When one file fails, the others are still copied, unless the failure concerns all: no such
bucket, wrong credentials, an open circuit breaker, a full disk. Symbolic links below SRC are failures
unless --links is given; below DST nothing is written through one. Keys that lead out of the directory, or
that cannot be file names, are failures. An empty source is an error, unless --allow-empty is given.
--manifest writes the outcome of each file. The number of files at a time is added to the default
failure_threshold. --include, --exclude and --exclude-from choose by patterns as *.csv, /2024/** and tmp/:
the last one that matches decides. With --wait, the copy resumes when an open circuit breaker lets calls
pass again.

Credentials, region and profile come from the AWS environment, as for the AWS CLI; the region of a bucket
is detected. --no-sign-request uses no credentials. The preset is s3_upload, s3_download or, for a URL,
api_call, which has 3 attempts. Each endpoint and bucket, or scheme, host and port of a URL, has a circuit
breaker, which all copies of this user share: see perdure status. They also share --rate, which limits the
requests to SRC, and --rate-dst.

The request for a URL gets the fields of --header, --header-file and --header-env, the user of --netrc, and
with --data or --method POST a body. These go to the scheme, host and port of the URL only. A POST is
repeated only with a header field Idempotency-Key or --idempotent. --next reads all pages of a JSON API, and
--items names their items, which DST gets as JSON lines.

With --sse-c-key FILE, the store encrypts objects with that key and does not keep the key (SSE-C). If SRC
and DST are objects, the key is that of both. It is sent over https only.

Started by Dagster, it reports each retry, the outcome, and metadata of the copy for the step's asset.

The exit code is 0 if all is copied, 1 for a permanent failure, 69 if it gave up, 75 to retry later (the
message says when), 64 for invalid usage, 130 or 143 if interrupted. With -r it is 1 if a file failed
permanently, and 69 if it gave up on all files that failed.`

func (a *app) copyCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "copy [flags] SRC... DST",
		Short: "Copy a file, a web page, an S3 object, or many, and verify them",
		Long:  copyText,
		Example: `  perdure copy hour.csv s3://bikes/raw/
  perdure copy https://example.org/stations.json stations.json --max-attempts 7
  perdure copy https://api.example.org/trips trips.json --header-env 'Authorization: Bearer {{API_TOKEN}}'
  perdure copy https://api.example.org/trips s3://bikes/trips.jsonl --next paging.next --items data
  perdure copy https://example.org/large.zip . --checksum sha256:9f86d081884c7d65...
  perdure copy *.csv s3://bikes/raw/
  perdure copy 's3://bikes/raw/**/*.csv' .
  perdure copy --from-file urls.csv s3://bikes/raw/ --manifest copied.jsonl
  perdure copy -r ./2024 s3://bikes/raw/2024 --manifest copied.jsonl
  perdure copy s3://bikes/raw/hour.csv - --endpoint-url http://localhost:9000 | head
  pg_dump bikes | perdure copy - s3://backup/bikes.sql`,
	}
	a.copies(c, addCopyFlags(c.Flags()))
	return c
}

// copies makes c a command that copies as the flags say.
func (a *app) copies(c *cobra.Command, more *copyFlags) {
	wait := time.Duration(0)
	a.addWait(c.Flags(), &wait)
	f := policy.Add(c.Flags())
	c.Args, c.DisableFlagsInUseLine = more.several.arguments, true
	c.RunE = func(c *cobra.Command, args []string) error {
		to := args[len(args)-1]
		a.openDagster(c.Context(), to, more.manifest)
		if err := errors.Join(more.check(c.Flags()), more.bandwidth.check(more.minRate), awsenv.CheckURL("--endpoint-url", more.urls[0]), awsenv.CheckURL("--endpoint-url-dst", more.urls[1]), a.dagster.SelectAsset(more.asset), a.dagster.ApplyExtras(f)); err != nil {
			return err
		}
		job := &copying.Job{Session: more.session(), Source: more.several.args[0], Destination: to, Checksum: more.checksum}
		if err := more.request.apply(a, c.Flags(), &job.Session, job.Source); err != nil {
			return err
		}
		job.Session.Waiter = a.waiter(wait)
		if more.many() {
			return a.copyTree(c, f, more, job)
		}
		if err := checkOnce(c.Flags(), job); err != nil {
			return err
		}
		return a.copy(c, f, &more.metrics, job)
	}
}

// copy copies one file.
func (a *app) copy(c *cobra.Command, f *policy.Flags, counts *metricsFile, job *copying.Job) error {
	if job.Destination != "-" {
		exit.IgnoreBrokenPipes() // the copy continues when the reader of the log has gone
	}
	meter := a.meter(job.Source, job.Destination)
	defer meter.End()
	job.Session.Stdin, job.Session.Stdout = a.stdin, a.stdout
	done, err := a.prepare(c.Context(), f, &job.Session, counts, meter)
	defer done()
	if err != nil {
		return err
	}
	ctx, stop := exit.OnSignal(c.Context())
	defer stop()
	job.Progress = meter.Bytes
	r, err := job.Run(ctx)
	meter.End()
	if err != nil {
		return err
	}
	a.log.Info(copied(r), "event", "copied", "src", r.Source, "dst", r.Destination, "bytes", r.Bytes,
		"checksum", r.Checksum, "verified", r.Verified, "attempts", r.Attempts, "retries", r.Retries, "duration", r.Elapsed)
	a.dagster.Materialize(dagster.CopyMetadata(r))
	return nil
}

// prepare gives a session its policy, store and observers. The returned function must be
// called when the copy is done: it also writes what counts has counted.
func (a *app) prepare(ctx context.Context, f *policy.Flags, job *endpoint.Session, counts *metricsFile, meter *progress.Meter) (done func(), err error) {
	done = func() {}
	if job.Policy, err = a.load(f); err != nil {
		return done, err
	}
	s, err := job.Policy.Settings("default") // an error is reported even if the copy needs no policy
	if err != nil {
		return done, exit.UsageError(err)
	}
	if err := counts.prepare(a); err != nil {
		return done, err
	}
	job.Metrics = &counts.registry
	store, err := state.Open(s.Store, meter.Log)
	if err != nil {
		return done, s.AtSource(err)
	}
	a.store, job.Breaker = s.Store, s.Breaker
	const want = "used with a URL or an object as SRC"
	if s.Given("rate") == "--rate" {
		job.Limits = append(job.Limits, setting.Bad("--rate", setting.RateText(s.Breaker.Rate), want+"; use --rate-dst for DST"))
	}
	if s.Given("concurrency") == "--concurrency" {
		job.Limits = append(job.Limits, setting.Bad("--concurrency", s.Breaker.Concurrency, want))
	}
	hook, err := a.hook(ctx, meter.Log)
	if err != nil {
		return store.Close, err
	}
	job.OnOpen, job.Breaker.Store, job.Breaker.Log = a.onOpen, store, meter.Log
	hook.Watch(&job.Breaker)
	job.Waiter.Refresh, job.Waiter.AtGate = store.Ready, atGate(&s.Policy)
	job.Observe = a.dagster.Observe(nil, func(ctx context.Context, e retry.Event) {
		if a.logsJSON() || e.Kind != retry.Stopped { // a person reads the error of the command
			retry.LogTo(about(ctx, meter.Log))(ctx, e)
		}
	})
	job.Registry = new(circuit.Registry)
	job.Resumed = meter.Resumed
	job.Note = func(event, text string, attrs ...any) {
		level := slog.LevelInfo
		if event == endpoint.EventChanged {
			level = slog.LevelWarn
		}
		meter.Log.Log(context.Background(), level, text, append([]any{"event", event}, attrs...)...)
	}
	return func() {
		hook.Close()
		a.dagster.RecordBreakers(job.Breakers())
		counts.write(a, s.Store)
		store.Close()
	}, nil
}

// about returns log with the name of the file that an event is of.
func about(ctx context.Context, log *slog.Logger) *slog.Logger {
	if name := endpoint.Subject(ctx); name != "" {
		return log.With("file", name)
	}
	return log
}

// meter returns the meter of a copy of that name. It draws no bar if data goes to the
// terminal. If it draws one, the log of the command appears above it.
func (a *app) meter(name string, data ...string) *progress.Meter {
	m := progress.New(name, a.log)
	shown := slices.ContainsFunc(data, a.isOutput) && term.IsTerminal(int(a.stdout.Fd()))
	if !a.logsJSON() && !shown && a.dagster == nil && term.IsTerminal(int(a.stderr.Fd())) {
		m.Draw(a.stderr, a.logger)
		a.log = m.Log
	}
	return m
}

// requests returns how many requests were sent, and how many of them were retries.
func requests(sent, retries int) string {
	text := report.Count(sent, "request", "requests")
	if retries > 0 {
		text += " (" + report.Count(retries, "retry", "retries") + ")"
	}
	return text
}

// took returns how long a copy of so many bytes took, and its speed by those that were moved.
func took(bytes, moved int64, elapsed time.Duration) string {
	text := report.Bytes(bytes) + " in " + report.Took(elapsed)
	if bytes > 0 && moved > 0 {
		text += ", " + report.Rate(moved, elapsed)
	}
	return text
}

// copied returns the last line of a copy.
func copied(r copying.Result) string {
	text := fmt.Sprintf("Copied %s to %s: %s", r.Source, r.Destination, took(r.Bytes, r.Bytes-r.Resumed, r.Elapsed))
	if r.Resumed > 0 {
		text += " (" + report.Bytes(r.Resumed) + " resumed)"
	}
	if r.Attempts > 0 {
		text += ", " + requests(r.Attempts, r.Retries)
	}
	if r.Checksum == "" {
		return text + ", verified by " + r.Verified
	}
	return text + ", " + r.Checksum
}
