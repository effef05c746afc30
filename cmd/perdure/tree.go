package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/copying"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/dagster"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/endpoint"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/exit"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/policy"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/report"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/sources"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/tree"
	"github.com/seed-0f2c7998/perdure/internal/setting"
)

// copyFlags are the flags of copy besides those of every policy.
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
	urls      [2]string // of the stores, as the flags --endpoint-url and --endpoint-url-dst
	profiles  [2]string
	links     string
	set       attributeFlags
	bandwidth bandwidthFlag
	empty     bool
	manifest  string
	asset     string
	dryRun    bool
	delete    bool
	maxDelete int

	metrics metricsFile
	choose  chooseFlags
	request requestFlags
	compare compareFlags
	several severalFlags
}

// addCopyFlags adds the flags of copy.
func addCopyFlags(flags *pflag.FlagSet) *copyFlags {
	f := &copyFlags{minRate: 1024, maxDelete: -1}
	flags.BoolVarP(&f.recursive, "recursive", "r", false, "copy all files below a directory to s3://BUCKET/PREFIX, the reverse, or between stores")
	flags.Var(policy.Whole(&f.parallel, 1, 256), "parallel", fmt.Sprintf("`number` of files at a time with -r (%d), or of requests for one large file (%d); 1 to 256", tree.DefaultParallel, endpoint.DefaultParallel))
	flags.StringVar(&f.checksum, "checksum", "", "`checksum` that SRC must have, such as sha256:9f86d0...")
	flags.BoolVar(&f.noResume, "no-resume", false, "start from scratch, and keep nothing to resume from")
	f.request.add(flags)
	f.several.add(flags)
	flags.StringVar(&f.version, "version-id", "", "`version` of SRC, if it is an object")
	f.addCommon(flags)
	return f
}

// addSyncFlags adds the flags of sync.
func addSyncFlags(flags *pflag.FlagSet) *copyFlags {
	f := &copyFlags{minRate: 1024, maxDelete: -1, recursive: true, several: severalFlags{never: true}}
	flags.BoolVar(&f.delete, "delete", false, "delete the files that DST has and SRC has not, if all others are copied")
	flags.Var(policy.Whole(&f.maxDelete, 0, 1<<30), "max-delete", fmt.Sprintf("delete nothing if more files than this `number` would be deleted (%d, or half of DST)", tree.MaxDelete))
	flags.Lookup("max-delete").DefValue = "" // -1 cannot be given
	flags.Var(policy.Whole(&f.parallel, 1, 256), "parallel", fmt.Sprintf("`number` of files at a time (%d); 1 to 256", tree.DefaultParallel))
	f.addCommon(flags)
	return f
}

// addCommon adds the flags of copy and sync.
func (f *copyFlags) addCommon(flags *pflag.FlagSet) {
	f.choose.add(flags)
	f.compare.add(flags)
	flags.BoolVar(&f.dryRun, "dry-run", false, "change nothing: say what would be copied, skipped and deleted, and why")
	flags.StringVar(&f.sseKey, "sse-c-key", "", "`file` with the key, 32 bytes or their base64, with which the store encrypts objects (SSE-C)")
	flags.BoolVar(&f.noSign, "no-sign-request", false, "send requests to a store without credentials, for public buckets")
	flags.BoolVar(&f.payer, "request-payer", false, "pay for the requests to a requester-pays bucket")
	flags.Var(policy.Whole(&f.minRate, 0, 1<<30), "min-rate", "minimum `bytes` per second of a download, averaged over a minute; 0 means no limit")
	flags.Var(policy.Rate(&f.rateDst), "rate-dst", "maximum requests per second to DST, or per unit as in 60/m (no limit); --rate is for SRC")
	flags.StringVar(&f.urls[0], "endpoint-url", "", "`URL` of an S3-compatible store (AWS_ENDPOINT_URL, or AWS)")
	flags.StringVar(&f.urls[1], "endpoint-url-dst", "", "`URL` of the store of DST, if it differs")
	flags.StringVar(&f.profiles[0], "profile", "", "`name` of an AWS profile with credentials (AWS_PROFILE)")
	flags.StringVar(&f.profiles[1], "profile-dst", "", "`name` of the profile for DST, if it differs")
	flags.StringVar(&f.links, "links", string(tree.Fail), "what to do with symbolic links with -r: `way` is follow, skip or fail")
	flags.BoolVar(&f.empty, "allow-empty", false, "let -r succeed if there is nothing to copy")
	flags.StringVar(&f.manifest, "manifest", "", "`file` for the outcome of each file with -r, one JSON object per line; - is standard output")
	f.bandwidth.add(flags)
	f.set.add(flags)
	flags.StringVar(&f.asset, "dagster-asset", "", "`key` of the asset to report to Dagster, if the step has several")
	addMetricsFile(flags, &f.metrics)
}

// check returns an error about flags that are invalid together.
func (f *copyFlags) check(flags *pflag.FlagSet) error {
	switch {
	case flags.Changed("sse-c-key") && f.sseKey == "":
		return setting.Bad("--sse-c-key", "", "a file with a key")
	case flags.Changed("version-id") && f.version == "":
		return setting.Bad("--version-id", "", "the version of an object")
	case !slices.Contains([]tree.Links{tree.Fail, tree.Skip, tree.Follow}, tree.Links(f.links)):
		return setting.Unknown("--links", f.links, []string{"follow", "skip", "fail"})
	case flags.Changed("max-delete") && !f.delete:
		return exit.UsageError(errors.New("--max-delete can only be used with --delete"))
	}
	if flags.Changed("from-file") && f.recursive {
		return exit.UsageError(errors.New("--from-file cannot be used with --recursive: each line is one file"))
	}
	names, text := append([]string{"manifest", "links", "allow-empty", "dry-run"}, slices.Concat(chooseNames, compareNames)...), "--%s is for many files: it can only be used with --recursive, --from-file, several SRC or a pattern"
	if f.many() {
		names, text = slices.Concat([]string{"checksum", "no-resume", "version-id"}, f.request.refused(f.several.several && !f.recursive)), "--%s is for one file: it cannot be used with --recursive, several SRC or a pattern, nor with --from-file"
	}
	for _, name := range names {
		if flags.Changed(name) {
			return exit.UsageError(fmt.Errorf(text, name))
		}
	}
	return nil
}

// many reports whether many files are copied, or one as if it were many.
func (f *copyFlags) many() bool { return f.recursive || f.several.several }

// session returns a session with the settings of the flags.
func (f *copyFlags) session() endpoint.Session {
	return endpoint.Session{
		Parallel: f.parallel, NoResume: f.noResume, CustomerKey: f.sseKey, NoSignRequest: f.noSign,
		RequestPayer: f.payer, VersionID: f.version, MinRate: int64(f.minRate), RateDst: f.rateDst, Settings: f.set.Settings,
		Bandwidth: f.bandwidth.rate, BandwidthText: f.bandwidth.text,
		EndpointURL: f.urls[0], EndpointURLDst: f.urls[1], Profile: f.profiles[0], ProfileDst: f.profiles[1],
	}
}

// checkTree returns an error about flags that are not for these addresses.
func (f *copyFlags) checkTree(t sources.Plan) error {
	below := t.Several && f.recursive // directories may be among them
	if t.From != nil && !below && tree.Links(f.links) == tree.Follow {
		return exit.UsageError(errors.New("--links follow is for links below SRC: no file is written through a link below DST"))
	}
	if f.several.list != "" && (f.compare.sizeOnly || f.compare.modTimes) {
		return exit.UsageError(errors.New("--size-only and --mtime cannot be used with --from-file: what an earlier run copied is known"))
	}
	return f.compare.check(t.Tree)
}

// copyTree copies many files. link has their addresses and the session.
func (a *app) copyTree(c *cobra.Command, f *policy.Flags, flags *copyFlags, link *copying.Job) error {
	t, err := flags.plan(a.stdin, link.Destination, link.Session.Stores())
	if err = cmp.Or(err, flags.checkTree(t)); err != nil {
		return err
	}
	exit.IgnoreBrokenPipes()
	meter := a.meter(t.Text, flags.manifest)
	defer meter.End()
	done, err := a.prepare(c.Context(), f, &link.Session, &flags.metrics, meter)
	defer done()
	if err != nil {
		return err
	}
	ctx, stop := exit.OnSignal(c.Context())
	defer stop()
	parallel := cmp.Or(flags.parallel, tree.DefaultParallel)
	link.Session.Parallel = 0 // --parallel is the number of files here
	if link.Session.Breaker.FailureThreshold == 0 {
		link.Session.Breaker.FailureThreshold = 5 + parallel // files that fail at the same time are one event
	}
	job := &tree.Job{
		Tree: t.Tree, Several: t.Several, Session: &link.Session, Parallel: parallel, Links: tree.Links(flags.links), AllowEmpty: flags.empty, Progress: meter.Files,
		Warn:   func(text string) { meter.Log.Warn(text, "event", "warning") },
		DryRun: flags.dryRun, Delete: flags.delete, MaxDelete: flags.maxDelete,
		Done: func(e tree.Entry) { reportEntry(meter.Log, e) },
	}
	flags.choose.apply(job)
	flags.compare.apply(job)
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
	reached := err == nil || s.Total() > 0 // the first file
	err = inOneLine(err, manifest.End(reached))
	if !reached {
		return err
	}
	text := summed(t.Text, link.Destination, s)
	if flags.dryRun {
		text = fmt.Sprintf("Nothing was changed. Would copy %s, %s, skip %d and delete %d", report.Count(s.Copied, "file", "files"), report.Bytes(s.Bytes), s.Skipped, s.Deleted)
	}
	a.log.Info(text, "event", "summary", "src", t.Text, "dst", link.Destination,
		"copied", s.Copied, "skipped", s.Skipped, "failed", s.Failed, "links", s.Linked, "bytes", s.Bytes,
		"requests", s.Requests, "retries", s.Retries, "duration", s.Elapsed, "deleted", s.Deleted, "unsummed", s.Unsummed, "dry_run", flags.dryRun)
	if err == nil && !flags.dryRun {
		a.dagster.Materialize(dagster.TreeMetadata(t.Text, link.Destination, s))
	}
	return err
}

// reportEntry logs the outcome of one file: failures, deletions and what a dry run would do; the rest on level debug.
func reportEntry(log *slog.Logger, e tree.Entry) {
	name := cmp.Or(e.Path, e.Key)
	switch e.Action {
	case tree.Failed:
		attrs := []any{"event", "failed", "path", e.Path, "key", e.Key, "error", e.Error}
		if !e.RetryAt.IsZero() {
			attrs = append(attrs, "retry_at", e.RetryAt)
		}
		log.Error("Failed: "+e.Error, attrs...)
	case tree.Deleted:
		log.Info("Deleted "+name, "event", "deleted", "path", e.Path, "key", e.Key)
	case tree.WouldCopy, tree.WouldSkip, tree.WouldDelete:
		log.Info(strings.ToUpper(e.Action[:1])+e.Action[1:]+" "+name+" ("+e.Reason+")", "event", strings.ReplaceAll(e.Action, " ", "_"), "path", e.Path, "key", e.Key, "bytes", e.Bytes, "reason", e.Reason)
	default:
		log.Debug(e.Action+" "+name, "event", e.Action, "path", e.Path, "key", e.Key, "bytes", e.Bytes, "checksum", e.Checksum)
	}
}

// inOneLine returns an error with both texts in one line.
func inOneLine(err, next error) error {
	if err == nil || next == nil {
		return cmp.Or(err, next)
	}
	return fmt.Errorf("%w; %w", err, next)
}

// manifest returns the manifest at path, or nil if path is "". Standard output and standard
// error are not replaced, but appended to.
func (a *app) manifest(ctx context.Context, path string) (*tree.Manifest, error) {
	switch {
	case path == "":
		return nil, nil //nolint:nilnil // no manifest
	case a.isOutput(path) && endpoint.WasClosed(a.stdout):
		return nil, endpoint.Explain("write", "the manifest", endpoint.ErrClosed)
	case a.isOutput(path):
		return tree.Stream(ctx, a.stdout), nil
	case isFile(path, a.stderr):
		return tree.Stream(ctx, a.stderr), nil
	}
	return tree.NewManifest(ctx, path)
}

// summed returns the last line of a copy of many files.
func summed(from, to string, s tree.Summary) string {
	text := fmt.Sprintf("Copied %s from %s to %s: %s, %s; %d skipped, %d failed",
		report.Count(s.Copied, "file", "files"), from, to, took(s.Bytes, s.Moved, s.Elapsed), requests(s.Requests, s.Retries), s.Skipped, s.Failed-s.Untried)
	if s.Unsummed > 0 {
		text += fmt.Sprintf(", %d copied without a checksum to compare", s.Unsummed)
	}
	if s.Deleted > 0 {
		text += fmt.Sprintf(", %d deleted", s.Deleted)
	}
	if s.Linked > 0 {
		text += ", " + report.Count(s.Linked, "link", "links") + " skipped"
	}
	if s.Untried > 0 {
		text += fmt.Sprintf(", %d not tried", s.Untried)
	}
	return text
}
