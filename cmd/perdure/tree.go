package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/copying"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/dagster"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/endpoint"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/exit"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/policy"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/report"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/tree"
	"github.com/seed-0f2c7998/perdure/internal/setting"
)

// copyFlags are the flags of copy that are no policy.
type copyFlags struct {
	recursive bool
	parallel  int
	checksum  string
	noResume  bool
	sseKey    string
	noSign    bool
	payer     bool
	version   string
	minRate   int
	rateDst   float64
	links     string
	empty     bool
	manifest  string
	asset     string
}

func addCopyFlags(flags *pflag.FlagSet) *copyFlags {
	f := &copyFlags{minRate: 1024}
	flags.BoolVarP(&f.recursive, "recursive", "r", false, "copy all files below a directory to s3://BUCKET/PREFIX, or back")
	flags.Var(policy.Whole(&f.parallel, 1, 256), "parallel", "`number` of files at a time with -r (16), or of requests for one that is large (4); 1 to 256")
	flags.StringVar(&f.checksum, "checksum", "", "`checksum` that SRC is to have, as sha256:9f86d0...")
	flags.BoolVar(&f.noResume, "no-resume", false, "start from scratch, and leave nothing for another run to resume")
	flags.StringVar(&f.sseKey, "sse-c-key", "", "`file` with the key, 32 bytes or their base64, by which the store encrypts the objects (SSE-C)")
	flags.BoolVar(&f.noSign, "no-sign-request", false, "send requests to a store without credentials, as for public buckets")
	flags.BoolVar(&f.payer, "request-payer", false, "pay for requests to a bucket whose requester pays")
	flags.StringVar(&f.version, "version-id", "", "`version` of SRC, an object")
	flags.Var(policy.Whole(&f.minRate, 0, 1<<30), "min-rate", "least `bytes` per second that a body must bring, averaged over a minute (1024); 0 means none")
	flags.Var(policy.Rate(&f.rateDst), "rate-dst", "most requests per second to DST, or as in 60/m (no limit); --rate is of SRC")
	flags.StringVar(&f.links, "links", string(tree.Fail), "what becomes of symbolic links with -r (fail): `way` is follow, skip or fail")
	flags.BoolVar(&f.empty, "allow-empty", false, "let -r succeed though there is nothing to copy")
	flags.StringVar(&f.manifest, "manifest", "", "`file` for what becomes of each file with -r, in lines of JSON; - is standard output")
	flags.StringVar(&f.asset, "dagster-asset", "", "`key` of the asset that the copy makes, if Dagster has started us and the step makes several")
	return f
}

// check returns what is wrong with the flags.
func (f *copyFlags) check(flags *pflag.FlagSet) error {
	switch {
	case flags.Changed("sse-c-key") && f.sseKey == "":
		return setting.Bad("--sse-c-key", "", "a file with a key")
	case f.recursive && f.checksum != "":
		return exit.UsageError(errors.New("--checksum is of one file: it does not go with --recursive"))
	case f.recursive && f.noResume:
		return exit.UsageError(errors.New("--no-resume is for one file: it does not go with --recursive"))
	case f.recursive && f.version != "":
		return exit.UsageError(errors.New("--version-id is of one object: it does not go with --recursive"))
	case !slices.Contains([]tree.Links{tree.Fail, tree.Skip, tree.Follow}, tree.Links(f.links)):
		return setting.Unknown("--links", f.links, []string{"follow", "skip", "fail"})
	case flags.Changed("version-id") && f.version == "":
		return setting.Bad("--version-id", "", "the version of an object")
	}
	for _, name := range []string{"manifest", "links", "allow-empty"} {
		if !f.recursive && flags.Changed(name) {
			return exit.UsageError(fmt.Errorf("--%s is of many files: it goes with --recursive", name))
		}
	}
	return nil
}

// session returns what the flags say of it.
func (f *copyFlags) session() endpoint.Session {
	return endpoint.Session{
		Parallel: f.parallel, NoResume: f.noResume, CustomerKey: f.sseKey, NoSignRequest: f.noSign,
		RequestPayer: f.payer, VersionID: f.version, MinRate: int64(f.minRate), RateDst: f.rateDst,
	}
}

// copyTree copies many files; link has the addresses, the endpoint and the policy.
func (a *app) copyTree(c *cobra.Command, f *policy.Flags, flags *copyFlags, link *copying.Job) error {
	t, err := endpoint.ParseTree(link.Source, link.Destination)
	if err == nil && !t.Up && tree.Links(flags.links) == tree.Follow {
		err = exit.UsageError(errors.New("--links follow is for links below SRC: those below DST are not written through"))
	}
	if err != nil {
		return err
	}
	exit.IgnoreBrokenPipes()
	meter := a.meter(link.Source, flags.manifest)
	defer meter.End()
	done, err := a.prepare(f, &link.Session, meter)
	defer done()
	if err != nil {
		return err
	}
	ctx, stop := exit.OnSignal(c.Context())
	defer stop()
	parallel := cmp.Or(flags.parallel, 16)
	link.Many, link.Parallel = true, 0 // --parallel is of files, not of the requests for one
	if link.Breaker.FailureThreshold == 0 {
		link.Breaker.FailureThreshold = 5 + parallel // a burst that a store refuses is one event, not one for each file
	}
	job := &tree.Job{
		Tree: t, Session: &link.Session, Parallel: parallel, Links: tree.Links(flags.links), AllowEmpty: flags.empty, Progress: meter.Files,
		Warn: func(text string) { meter.Log.Warn(text, "event", "warning") },
		Done: func(e tree.Entry) {
			if e.Action == tree.Failed {
				meter.Log.Error("Failed: "+e.Error, "event", "failed", "path", e.Path, "key", e.Key, "error", e.Error)
				return
			}
			meter.Log.Debug(e.Action+" "+e.Path, "event", e.Action, "path", e.Path, "key", e.Key, "bytes", e.Bytes, "checksum", e.Checksum)
		},
	}
	manifest, err := a.manifest(ctx, flags.manifest)
	if err != nil {
		return err
	}
	if manifest != nil {
		job.Manifest = report.ForJSON(manifest)
	}
	if flags.manifest != "-" {
		job.Reserved = flags.manifest
	}
	s, err := job.Run(ctx)
	meter.End()
	came := err == nil || s.Total() > 0 // to the first file
	err = inOneLine(err, manifest.End(came))
	if !came {
		return err
	}
	a.log.Info(summed(link.Source, link.Destination, s), "event", "summary", "src", link.Source, "dst", link.Destination,
		"copied", s.Copied, "skipped", s.Skipped, "failed", s.Failed, "links", s.Linked, "bytes", s.Bytes,
		"requests", s.Requests, "retries", s.Retries, "duration", s.Elapsed)
	if err == nil {
		a.dagster.Materialize(dagster.TreeMetadata(link.Source, link.Destination, s))
	}
	return err
}

// inOneLine returns an error with both, where errors.Join would begin another line.
func inOneLine(err, next error) error {
	if err == nil || next == nil {
		return cmp.Or(err, next)
	}
	return fmt.Errorf("%w; %w", err, next)
}

// manifest returns where the manifest goes; nil: nowhere. What we write to already
// is written on.
func (a *app) manifest(ctx context.Context, path string) (*tree.Manifest, error) {
	switch {
	case path == "":
		return nil, nil //nolint:nilnil // as said
	case a.isOutput(path) && endpoint.WasClosed(a.stdout):
		return nil, endpoint.Explain("write", "the manifest", endpoint.ErrClosed)
	case a.isOutput(path):
		return tree.Stream(ctx, a.stdout), nil
	case isFile(path, a.stderr):
		return tree.Stream(ctx, a.stderr), nil
	}
	return tree.NewManifest(ctx, path)
}

// summed is the last line about many files.
func summed(from, to string, s tree.Summary) string {
	text := fmt.Sprintf("Copied %s from %s to %s: %s in %.1f seconds, %s; %d were there already, %d failed",
		counted(s.Copied, "file", "files"), from, to, counted(s.Bytes, "byte", "bytes"), s.Elapsed.Seconds(), requests(s.Requests, s.Retries), s.Skipped, s.Failed-s.Untried)
	if s.Linked > 0 {
		text += ", " + counted(s.Linked, "link", "links") + " left out"
	}
	if s.Untried > 0 {
		text += fmt.Sprintf(", %d are left", s.Untried)
	}
	return text
}
