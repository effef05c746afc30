package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/awsenv"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/endpoint"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/exit"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/help"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/policy"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/report"
)

// s3Command returns the command with the maintenance of stores.
func (a *app) s3Command() *cobra.Command {
	return help.Group(&cobra.Command{
		Use:   "s3 COMMAND",
		Short: "Maintenance for S3-compatible stores",
	}, a.cleanCommand())
}

func (a *app) cleanCommand() *cobra.Command {
	var f *policy.Flags
	endpointURL, age, wait := "", 24*time.Hour, time.Duration(0)
	c := &cobra.Command{
		Use:   "clean [flags] s3://BUCKET[/PREFIX]",
		Short: "Abort old multipart uploads that were never completed",
		Long: `Abort the multipart uploads of keys that begin with PREFIX, if they are older than --older-than and were
never completed. Until then, the store keeps their parts and charges for them. Objects are not changed.

Such uploads are left by copies that were killed or can be resumed. An aborted upload cannot be resumed:
its state in the state directory is removed, too. A store does not tell which program began an upload, so
uploads of other programs are aborted, too: --older-than must be longer than any upload takes.`,
		Example: `  perdure s3 clean s3://bikes
  perdure s3 clean s3://bikes/raw/ --older-than 1h`,
		Args:                  help.Exactly(1, "one: s3://BUCKET or s3://BUCKET/PREFIX"),
		DisableFlagsInUseLine: true,
		RunE: func(c *cobra.Command, args []string) error {
			if err := awsenv.CheckURL("--endpoint-url", endpointURL); err != nil {
				return err
			}
			return a.clean(c, f, args[0], age, &endpoint.Session{EndpointURL: endpointURL, Waiter: a.waiter(wait)})
		},
	}
	c.Flags().Var(policy.Span(&age, 0, 10_000*time.Hour), "older-than", "minimum `age` in seconds of an upload that is aborted")
	c.Flags().StringVar(&endpointURL, "endpoint-url", "", "`URL` of an S3-compatible store (AWS_ENDPOINT_URL, or AWS)")
	a.addWait(c.Flags(), &wait)
	f = policy.Add(c.Flags())
	return c
}

func (a *app) clean(c *cobra.Command, f *policy.Flags, keys string, old time.Duration, session *endpoint.Session) error {
	place, err := endpoint.ParsePrefix(keys)
	if err != nil {
		return err
	}
	meter := a.meter(keys)
	defer meter.End()
	done, err := a.prepare(c.Context(), f, session, new(metricsFile), meter)
	defer done()
	if err != nil {
		return err
	}
	ctx, stop := exit.OnSignal(c.Context())
	defer stop()
	session.Start()
	n, err := place.Clean(ctx, session, old)
	if n > 0 || err == nil {
		a.log.Info(fmt.Sprintf("Aborted %s to %s", report.Count(n, "unfinished upload", "unfinished uploads"), place),
			"event", "cleaned", "bucket", place.Bucket(), "prefix", place.Key(), "aborted", n)
	}
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}
