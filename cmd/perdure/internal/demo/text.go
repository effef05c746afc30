package demo

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/seed-0f2c7998/perdure/s3test"
)

// introduce shows what the demo does.
func (r *run) introduce() {
	s := r.Screen
	s.line("%s, seed %d", s.paint(bold, "perdure demo"), r.Seed)
	s.line("")
	s.line("   Copies %d bike stations from an HTTP API to files and to an S3 store, in %d", pages*perPage, steps)
	s.line("   steps and about %.0f seconds. Both servers are real, run on 127.0.0.1, and fail", 15*r.Pace)
	s.line("   on purpose. None of your files or settings is read or changed.")
	s.line("")
	troubled, what := tally(r.servers.pages, func(t trouble) string { return t.name })
	s.line("   station API   %s   fails %d times:", r.servers.api.URL, troubled)
	s.list(what)
	troubled, what = tally(r.servers.objects, s3test.Fault.String)
	s.line("   S3 store      %s   is down for %v, and fails %d times:", r.servers.store.URL, r.times.outage, troubled)
	s.list(what)
}

// summary shows the counts and the result.
func (r *run) summary() {
	s := r.Screen
	s.line("")
	s.line("%s", s.paint(bold, "Summary"))
	s.line("")
	s.line("   %-18s%7s%6s%10s%9s%9s%8s   %s", "", "calls", "done", "attempts", "retries", "refused", "waited", "amplification")
	var all row
	for _, row := range r.ledger.rows {
		r.showRow(*row)
		all.Calls += row.Calls
		all.Done += row.Done
		all.Attempts += row.Attempts
		all.Retries += row.Retries
		all.Refused += row.Refused
		all.Waited += row.Waited
	}
	all.Name = "total"
	r.showRow(all)
	s.line("")
	s.line("   Amplification is attempts per call done. The servers got %d requests,", r.servers.requests())
	s.line("   %d of them to resume a broken body.", r.ledger.resumes+r.servers.resumed())
	states := []string{}
	for i, t := range r.ledger.trips {
		if i == 0 {
			states = append(states, t.From.String())
		}
		states = append(states, t.To.String())
	}
	s.text("The store's breaker: " + strings.Join(states, ", ") + ".")
	s.line("")
	s.line("   %s, in %.1f s.", s.paint(green, fmt.Sprintf("All %d objects are identical, byte for byte", pages+districts)),
		time.Since(r.began).Seconds())
}

func (r *run) showRow(t row) {
	r.Screen.line("   %-18s%7d%6d%10d%9d%9d%6.1f s%8.2f", t.Name, t.Calls, t.Done, t.Attempts, t.Retries, t.Refused,
		t.Waited.Seconds(), float64(t.Attempts)/float64(max(t.Done, 1)))
}

// log logs the summary.
func (r *run) log() {
	for _, t := range r.ledger.rows {
		r.Log.Info(t.Name+" is done", "event", "tally", "operation", t.Name, "calls", t.Calls, "done", t.Done,
			"attempts", t.Attempts, "retries", t.Retries, "refused", t.Refused, "waited", t.Waited)
	}
	r.Log.Info("all objects are identical", "event", "verified", "seed", r.Seed, "objects", pages+districts,
		"bytes", r.bytes, "transitions", len(r.ledger.trips), "elapsed", time.Since(r.began))
}

// keep keeps the servers running until ctx ends, and then returns nil.
func (r *run) keep(ctx context.Context) error {
	if err := r.servers.failAtRandom(r.Seed); err != nil {
		return err
	}
	s, self := r.Screen, r.Self
	if self == "" {
		self = "perdure"
	}
	store := r.servers.store
	if r.Log != nil {
		r.Log.Info("the servers keep running", "event", "serving", "endpoint", store.URL, "api", r.servers.api.URL,
			"bucket", bucket, "access_key", store.AccessKey, "secret_key", store.SecretKey)
	}
	s.line("")
	s.line("%s", s.paint(bold, "Your turn: both servers keep running, and fail at random, until ctrl-C"))
	s.line("")
	s.line("   endpoint     %s", store.URL)
	s.line("   credentials  access key %s, secret key %s", store.AccessKey, store.SecretKey)
	s.line("")
	s.line("   In another terminal:")
	s.line("")
	s.line("     export AWS_ACCESS_KEY_ID=%s AWS_SECRET_ACCESS_KEY=%s", store.AccessKey, store.SecretKey)
	s.line("     %s copy '%s%s' s3://%s/mine.json --endpoint-url %s", self, r.servers.api.URL, pagePath(1), bucket, store.URL)
	s.line("     %s copy s3://%s/mine.json - --endpoint-url %s", self, bucket, store.URL)
	s.line("")
	s.line("   For your own store, set the credentials as for the AWS CLI:")
	s.line("")
	s.line("     %s copy FILE s3://BUCKET/KEY                               (AWS)", self)
	s.line("     %s copy FILE s3://BUCKET/KEY --endpoint-url https://HOST   (any other)", self)
	<-ctx.Done()
	return nil
}
