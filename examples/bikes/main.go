// Bikes copies data of a bike-sharing system to a store, as tables in Parquet:
//
//	bikes stations -api URL -to s3://BUCKET/KEY
//	bikes rides -from hour.csv -to s3://BUCKET/KEY
//
// Bikes is an example of a program that outlasts failures, as a Dagster step or by
// itself. The AWS environment names the store; AWS_ENDPOINT_URL names a store other
// than AWS's. Policy and breakers are configured as in the command perdure, by
// PERDURE_MAX_ATTEMPTS and the other variables.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/seed-0f2c7998/perdure/pipes"
	"github.com/seed-0f2c7998/perdure/retry"
)

func main() {
	os.Exit(pipes.Run(func(ctx context.Context, s *pipes.Session) error {
		return run(ctx, s, os.Args[1:])
	}))
}

// A job is the parsed command line.
type job struct {
	bucket, key string // where to store the table
	api         string // URL of the first page of stations
	from        string // path of the file of rides
}

func run(ctx context.Context, s *pipes.Session, args []string) error {
	if len(args) == 0 {
		return retry.Permanent(errors.New("no command: must be stations or rides"))
	}
	var j job
	flags := flag.NewFlagSet("bikes "+args[0], flag.ContinueOnError)
	flags.SetOutput(io.Discard) // the caller reports the error
	flags.Func("to", "s3://BUCKET/KEY of the table", func(text string) (err error) {
		j.bucket, j.key, err = place(text)
		return err
	})
	var do func(context.Context, *link, *job) error
	switch args[0] {
	case "stations":
		flags.StringVar(&j.api, "api", "", "URL of the first page of stations")
		do = stations
	case "rides":
		flags.StringVar(&j.from, "from", "", "CSV file of the UCI data set: hour.csv or day.csv")
		do = rides
	default:
		return retry.Permanent(fmt.Errorf("invalid value %q for command: must be stations or rides", args[0]))
	}
	if err := flags.Parse(args[1:]); err != nil {
		return retry.Permanent(err)
	}
	if j.bucket == "" || j.api+j.from == "" || flags.NArg() > 0 {
		return retry.Permanent(fmt.Errorf("%s: want -to and either -api or -from, and no other arguments", flags.Name()))
	}
	l, err := newLink(s, os.LookupEnv)
	if err != nil {
		return retry.Permanent(err)
	}
	err = do(ctx, l, &j)
	l.recordBreakers()
	return err
}

// place splits the address of an object into bucket and key.
func place(text string) (bucket, key string, err error) {
	rest, ok := strings.CutPrefix(text, "s3://")
	bucket, key, _ = strings.Cut(rest, "/")
	if !ok || bucket == "" || key == "" || strings.HasSuffix(key, "/") {
		return "", "", errors.New("want s3://BUCKET/KEY")
	}
	return bucket, key, nil
}
