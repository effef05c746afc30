// Command objects measures how fast a large file is uploaded to an S3 server and downloaded: by this library, and by the
// transfer manager of the AWS SDK.
//
//	go run ./objects [-size 1024] [-runs 5] [-part 8] [-parallel 4] [-failing 0.01] [-versitygw PATH] [-only s3test]
//
// Server and client are separate processes on the same machine, new ones for each transfer, so that time, memory
// and CPU are of that transfer alone. The clients take turns. The servers are s3test, which keeps objects in memory, and,
// if its binary is named by -versitygw or PERDURE_TEST_VERSITYGW, versitygw, which writes files: alone, and behind s3test,
// which fails some of the requests on their way there.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/versitygwtest"
)

// settings are the flags.
type settings struct {
	size, part int64 // bytes
	parallel   int
	runs       int
	delay      time.Duration
	failing    float64
	versitygw  string
	only       string
	dir        string
}

func main() {
	ctx := context.Background()
	if isRole(os.Args) {
		exit(play(ctx, os.Args[1], os.Args[2:]))
	}
	var s settings
	size := flag.Int64("size", 1024, "of the file, in MiB")
	part := flag.Int64("part", 8, "size of the parts of both, in MiB")
	flag.IntVar(&s.parallel, "parallel", 4, "parts of both that are under way at a time")
	flag.IntVar(&s.runs, "runs", 5, "transfers of each kind")
	flag.DurationVar(&s.delay, "delay", time.Second, "base delay and jitter of ours, which are those of S3Upload")
	flag.Float64Var(&s.failing, "failing", 0.01, "share of the requests that fail, in the rows where some do")
	flag.StringVar(&s.versitygw, "versitygw", os.Getenv(versitygwtest.Variable), "binary of versitygw v1.8.0")
	flag.StringVar(&s.only, "only", "", "part of the name of the tables that are wanted")
	flag.Parse()
	s.size, s.part = *size<<20, *part<<20
	exit(run(ctx, os.Stdout, s))
}

// isRole reports whether this process is a server or a client that the measuring process started.
func isRole(args []string) bool {
	return len(args) > 1 && (args[1] == roleServer || args[1] == roleClient)
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "objects:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// run writes the tables.
func run(ctx context.Context, w io.Writer, s settings) (err error) {
	if s.dir, err = os.MkdirTemp("", "perdure-objects-"); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(s.dir) }()
	source, err := makeFile(s.dir, s.size)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "A file of %d MiB, parts of %d MiB, %d at a time, medians of %d runs in turn, over loopback.\nBase delay of %s: %v.\n",
		s.size>>20, s.part>>20, s.parallel, s.runs, ours, s.delay)
	for _, t := range s.tables() {
		if !strings.Contains(t.name, s.only) {
			continue
		}
		if err := t.measure(ctx, w, s, source); err != nil {
			return fmt.Errorf("%s: %w", t.name, err)
		}
	}
	return nil
}

// A table is of one server. It has a row for each client, and a second one if some requests fail.
type table struct {
	name      string
	versitygw string // the binary; "": s3test
	faults    bool
}

func (s settings) tables() []table {
	all := []table{{name: "s3test", faults: true}}
	if s.versitygw != "" {
		all = append(all, table{name: "versitygw v1.8.0 alone", versitygw: s.versitygw},
			table{name: "versitygw v1.8.0 behind s3test", versitygw: s.versitygw, faults: true})
	}
	return all
}

// A row is a client, and the share of its requests that fail.
type row struct {
	client  string
	failing float64
}

func (r row) String() string {
	if r.failing == 0 {
		return r.client
	}
	return fmt.Sprintf("%s, %g%% fail", r.client, 100*r.failing)
}

// measure writes the table.
func (t table) measure(ctx context.Context, w io.Writer, s settings, source file) error {
	rows := []row{{ours, 0}, {manager, 0}}
	if t.faults && s.failing > 0 {
		rows = append(rows, row{ours, s.failing}, row{manager, s.failing})
	}
	all := map[row][]result{}
	for n := range s.runs {
		for i := range rows {
			r := rows[(i+n)%len(rows)]
			got, err := t.there(ctx, s, source, r, n)
			if err != nil {
				return fmt.Errorf("%s: %w", r, err)
			}
			all[r] = append(all[r], got)
		}
	}
	fmt.Fprintf(w, "\n%s\n", t.name)
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(out, "\tup MiB/s\tCPU s\tmemory MiB\tdown MiB/s\tCPU s\tmemory MiB\trequests failed\t\n")
	for _, r := range rows {
		up := median(all[r], func(r result) cost { return r.up })
		down := median(all[r], func(r result) cost { return r.down })
		struck, requests := 0, 0
		for _, got := range all[r] {
			struck, requests = struck+got.struck, requests+got.requests
		}
		fmt.Fprintf(out, "%s\t%.0f\t%.2f\t%d\t%.0f\t%.2f\t%d\t", r,
			rate(s.size, up.wall), up.cpu.Seconds(), up.memory>>20, rate(s.size, down.wall), down.cpu.Seconds(), down.memory>>20)
		if r.failing > 0 {
			fmt.Fprintf(out, "%d of %d", struck, requests)
		}
		fmt.Fprint(out, "\t\n")
	}
	return out.Flush()
}

func rate(size int64, wall time.Duration) float64 { return float64(size>>20) / wall.Seconds() }

// A cost is the time, CPU and memory of one transfer.
type cost struct {
	wall, cpu time.Duration
	memory    int64 // bytes, at most
}

// A result is the cost of an upload and a download.
type result struct {
	up, down         cost
	requests, struck int // as the server counted them; struck: those that it failed
}

// median takes each figure by itself.
func median(all []result, of func(result) cost) (c cost) {
	middle := func(f func(cost) int64) int64 {
		var values []int64
		for _, r := range all {
			values = append(values, f(of(r)))
		}
		slices.Sort(values)
		return values[len(values)/2]
	}
	c.wall = time.Duration(middle(func(c cost) int64 { return int64(c.wall) }))
	c.cpu = time.Duration(middle(func(c cost) int64 { return int64(c.cpu) }))
	c.memory = middle(func(c cost) int64 { return c.memory })
	return c
}
