package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"github.com/vbauerster/mpb/v8/cwriter"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/awsenv"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/copying"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/dagster"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/endpoint"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/exit"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/help"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/policy"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/progress"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/state"
	"github.com/seed-0f2c7998/perdure/internal/setting"
	"github.com/seed-0f2c7998/perdure/retry"
)

// copyText is the help of copy.
const copyText = `Copy SRC to DST, through failures.

SRC is a file, - for standard input, an http or https URL, or s3://BUCKET/KEY.
DST is a file, - for standard output, or s3://BUCKET/KEY. A directory, s3://BUCKET and a key that ends
in a slash get the name of SRC at their end.

It succeeds only when DST is complete and verified. A file is written under another name beside DST and
renamed when it is on the disk; an object is there whole or not at all. So when it fails, DST is as it
was. Only what is written to standard output, a pipe or a device can't be taken back. What ends on
standard input is taken for complete: in a shell, set pipefail.

What is large is fetched in parallel ranges and sent in parts, and its copy outlasts the process. When it
fails, is interrupted or killed, the same command goes on from there, or from the beginning if SRC has
changed. What has come of a URL or an object stays beside DST in a directory .perdure-*, if there is an
ETag or a Last-Modified that will do. What has gone of a file stays in the store, and what is known of it
in the state directory (PERDURE_STATE, or else ~/.local/state/perdure); perdure s3 clean drops both.
--no-resume leaves nothing. --checksum compares SRC, whatever it is, before DST is there.

An object gets the type, coding and other attributes of SRC; from object to object the store copies.

With -r, SRC is a directory and DST is s3://BUCKET/PREFIX, or the other way round: what is below the one
comes to be below the other. Files that are there are not copied again: those with the same size and the
same checksum. Nothing is deleted. A file that fails does not keep the others from being copied, unless
it would be the same for all: no such bucket, wrong credentials, an open circuit breaker, a full disk.
Symbolic links below SRC are failures unless --links says otherwise; below DST nothing is written through
one. Keys that would lead out of the directory, or can't be files here, are refused one by one. A source
in which there is nothing is an error, unless --allow-empty is given. --manifest lists what became of each.
The circuit breaker opens after as many more failures in a row as there are files at a time, unless
--failure-threshold is given; --wait lets the copy go on when that closes again.

Credentials, region and profile are those of the AWS environment, as for the AWS CLI; a bucket that is
elsewhere is followed to its region. --no-sign-request uses no credentials. The policy begins
as the preset s3_upload, s3_download or, for a URL, api_call. Endpoint and bucket, or scheme, host and
port of a URL, have a circuit breaker, which all copies of this user share: see perdure status. So do
--rate, which limits the requests to SRC, and --rate-dst.

With --sse-c-key FILE the store encrypts objects with that key and keeps none (SSE-C). It must be the same
for SRC and DST where both are objects, and goes over https alone.

Started by Dagster, it reports each retry, how it ended, and what there is to know of the copy as metadata
of the step's asset.

The exit code is 0 if all of it is there, 1 if it can't be done, 69 if attempts were given up, 75 if it
is to be tried again later (the message says when), 64 for wrong usage, 130 or 143 if interrupted. With
-r it is 1 if a file can't be copied, and 69 if attempts were given up for all that failed.`

func (a *app) copyCommand() *cobra.Command {
	var f *policy.Flags
	var more *copyFlags
	endpointURL, wait := "", time.Duration(0)
	c := &cobra.Command{
		Use:   "copy [flags] SRC DST",
		Short: "Copy a file, a web page, an S3 object, or many, and verify them",
		Long:  copyText,
		Example: `  perdure copy hour.csv s3://bikes/raw/
  perdure copy https://example.org/stations.json stations.json --max-attempts 7
  perdure copy https://example.org/large.zip . --checksum sha256:9f86d081884c7d65...
  perdure copy -r ./2024 s3://bikes/raw/2024 --manifest copied.jsonl
  perdure copy s3://bikes/raw/hour.csv - --endpoint-url http://localhost:9000 | head
  pg_dump bikes | perdure copy - s3://backup/bikes.sql`,
		Args:                  help.Exactly(2, "two: SRC and DST"),
		DisableFlagsInUseLine: true,
		RunE: func(c *cobra.Command, args []string) error {
			a.report(c.Context(), args[1], more.manifest)
			if err := errors.Join(more.check(c.Flags()), awsenv.CheckURL("--endpoint-url", endpointURL), a.dagster.SelectAsset(more.asset), a.dagster.ApplyExtras(f)); err != nil {
				return err
			}
			job := &copying.Job{Session: more.session(), Source: args[0], Destination: args[1], Checksum: more.checksum}
			job.EndpointURL, job.Waiter = endpointURL, a.waiter(wait)
			if more.recursive {
				return a.copyTree(c, f, more, job)
			}
			return a.copy(c, f, job)
		},
	}
	more = addCopyFlags(c.Flags())
	c.Flags().StringVar(&endpointURL, "endpoint-url", "", "`URL` of an S3-compatible store (AWS, or what AWS_ENDPOINT_URL says)")
	addWait(c.Flags(), &wait)
	f = policy.Add(c.Flags())
	return c
}

// copy runs the job.
func (a *app) copy(c *cobra.Command, f *policy.Flags, job *copying.Job) error {
	if job.Destination != "-" {
		exit.IgnoreBrokenPipes() // the copy goes on, though nobody reads of it
	}
	meter := a.meter(job.Source, job.Destination)
	defer meter.End()
	job.Stdin, job.Stdout = a.stdin, a.stdout
	done, err := a.prepare(f, &job.Session, meter)
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

// prepare gives a session its policy, and those who are told of it. The function
// must be called when the copy is done.
func (a *app) prepare(f *policy.Flags, job *endpoint.Session, meter *progress.Meter) (done func(), err error) {
	done = func() {}
	if job.Policy, err = a.load(f); err != nil {
		return done, err
	}
	s, err := job.Policy.Settings("default") // it may be wrong, though it may not be needed
	if err != nil {
		return done, exit.UsageError(err)
	}
	store, err := state.Open(s.Store, meter.Log)
	if err != nil {
		return done, s.AtSource(err)
	}
	job.Breaker = s.Breaker
	const want = "used with a URL or an object as SRC"
	if s.Given("rate") == "--rate" {
		job.Limits = append(job.Limits, setting.Bad("--rate", setting.RateText(s.Breaker.Rate), want+"; --rate-dst is for DST"))
	}
	if s.Given("concurrency") == "--concurrency" {
		job.Limits = append(job.Limits, setting.Bad("--concurrency", s.Breaker.Concurrency, want))
	}
	job.Breaker.Store, job.Breaker.Log = store, meter.Log
	job.Waiter.Refresh, job.Waiter.AtGate = store.Ready, atGate(&s.Policy)
	observe := retry.LogTo(meter.Log)
	job.Observe = a.dagster.Observe(nil, func(ctx context.Context, e retry.Event) {
		if a.json || e.Kind != retry.Stopped { // people get the error itself
			observe(ctx, e)
		}
	})
	job.Registry = new(circuit.Registry)
	job.Resumed = meter.Resumed
	job.Note = func(event, text string) { meter.Log.Info(text, "event", event) }
	return func() { a.dagster.RecordBreakers(job.Breakers()); store.Close() }, nil
}

// meter returns one for what has that name. Where those files show data on the
// terminal, a bar would draw over it.
func (a *app) meter(name string, data ...string) *progress.Meter {
	m := progress.New(name, a.log)
	shown := slices.ContainsFunc(data, a.isOutput) && cwriter.IsTerminal(int(a.stdout.Fd()))
	if !a.json && !shown && a.dagster == nil && cwriter.IsTerminal(int(a.stderr.Fd())) {
		m.Draw(a.stderr, a.logger)
	}
	return m
}

// counted returns a number with what it is of.
func counted[N int | int64](n N, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprint(n, " ", many)
}

// requests tells how many were sent, and how many of them were retries.
func requests(sent, retries int) string {
	text := counted(sent, "request", "requests")
	if retries > 0 {
		text += " (" + counted(retries, "retry", "retries") + ")"
	}
	return text
}

// copied is the last line.
func copied(r copying.Result) string {
	text := fmt.Sprintf("Copied %s to %s: %s in %.1f seconds", r.Source, r.Destination, counted(r.Bytes, "byte", "bytes"), r.Elapsed.Seconds())
	if r.Attempts > 0 {
		text += ", " + requests(r.Attempts, r.Retries)
	}
	if r.Checksum == "" {
		return text + ", verified by " + r.Verified
	}
	return text + ", " + r.Checksum
}
