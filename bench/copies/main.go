// Command copies measures the command perdure beside curl, wget, aria2c, rclone and the AWS CLI, those that are installed:
// a large file from a URL and from an S3 server, to an S3 server, a tree of large files and many small ones in both
// directions, the same again when nothing has changed, and a small file, which shows how long a client takes to start.
//
//	go run ./copies -perdure PATH [-size 1024] [-files 10000] [-runs 9] [-only "^S3 up$"] [-dir /dev/shm]
//
// The servers, s3test and one for the URLs, are a process of their own, and keep everything in memory; so are the files if -dir
// is /dev/shm. The clients are processes that take turns, with the settings that they have without configuration;
// "rclone, 16" has --transfers 16 --checkers 16, as many files at a time as perdure. Time, CPU and memory are of the client
// alone; "server CPU" is what it made the servers spend. Each copy is compared with its source. A client that is not
// installed is skipped, and named.
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

// settings are the flags.
type settings struct {
	perdure string
	size    int64 // bytes
	files   int
	runs    int
	slow    time.Duration
	only    *regexp.Regexp
	dir     string
}

func main() {
	if len(os.Args) == 3 && os.Args[1] == role {
		size, err := strconv.ParseInt(os.Args[2], 10, 64)
		exit(errors.Join(err, serve(size)))
	}
	var s settings
	size := flag.Int64("size", 1024, "of the large file, in MiB")
	flag.StringVar(&s.perdure, "perdure", "", "path of the command")
	flag.IntVar(&s.files, "files", 10_000, "small files, of 4 KiB")
	flag.IntVar(&s.runs, "runs", 9, "copies of each kind")
	flag.DurationVar(&s.slow, "slow", 15*time.Second, "a client whose first copy of a kind takes longer makes 3")
	only := flag.String("only", "", "regular expression for the names of the tables that are wanted")
	flag.StringVar(&s.dir, "dir", "/dev/shm", "directory for the files")
	flag.Parse()
	s.size = *size << 20
	var err error
	if s.only, err = regexp.Compile(*only); err != nil {
		exit(err)
	}
	exit(run(context.Background(), os.Stdout, s))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "copies:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// A bench is the servers and files of all tables.
type bench struct {
	settings

	servers *servers
	sums    map[string][]byte // of the sources, by path
	large   string            // the large file, to be sent
	tree    string            // the directory with 303 files of 1.2 MB, 366 MB
	many    string            // the directory with the small files
	one     string            // a small file
}

const bucket = "bench"

func run(ctx context.Context, w io.Writer, s settings) (err error) {
	if s.perdure == "" {
		return errors.New("-perdure is needed: the path of the command, as bin/perdure")
	}
	if s.perdure, err = filepath.Abs(s.perdure); err != nil {
		return err
	}
	if s.dir, err = os.MkdirTemp(s.dir, "perdure-copies-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(s.dir)) }()
	b := &bench{settings: s}
	if b.servers, err = start(ctx, s.size); err != nil {
		return err
	}
	defer func() { b.servers.stop() }()
	if err := b.prepare(ctx); err != nil {
		return err
	}
	fmt.Fprintf(w, "A file of %d MiB, a tree of 366 MB, and %d files of 4 KiB; medians of %d runs in turn, over loopback.\n", s.size>>20, s.files, s.runs)
	for _, t := range b.tables() {
		if s.only.MatchString(t.name) {
			if err := b.measure(ctx, w, t); err != nil {
				return fmt.Errorf("%s: %w", t.name, err)
			}
		}
	}
	return nil
}

// prepare makes the files, and the objects for the downloads.
func (b *bench) prepare(ctx context.Context) error {
	b.large, b.tree, b.many, b.one = filepath.Join(b.dir, "large.bin"), filepath.Join(b.dir, "tree"), filepath.Join(b.dir, "many"), filepath.Join(b.dir, "one")
	if err := errors.Join(download(ctx, b.servers.Web+"/large.bin", b.large), fill(b.tree, 303, 1_208_000), fill(b.many, b.files, 4<<10), os.WriteFile(b.one, []byte(small), 0o600)); err != nil {
		return err
	}
	b.sums = make(map[string][]byte)
	for _, path := range []string{b.large, b.tree, b.many, b.one} {
		sum, err := sumOf(path)
		if err != nil {
			return err
		}
		b.sums[path] = sum
	}
	for _, args := range [][]string{
		{"copy", b.large, "s3://" + bucket + "/large.bin"},
		{"copy", "-r", b.tree, "s3://" + bucket + "/tree"},
		{"copy", "-r", b.many, "s3://" + bucket + "/many"},
	} {
		if out, err := b.command(ctx, b.perdure, args...).CombinedOutput(); err != nil {
			return fmt.Errorf("%v: %w: %s", args, err, out)
		}
	}
	return nil
}

// fill makes a directory of files of that many bytes.
func fill(dir string, files, size int) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	random, content := rand.NewChaCha8([32]byte{2}), make([]byte, size)
	for n := range files {
		_, _ = random.Read(content)
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%05d.bin", n)), content, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// command returns a client with the environment that it needs.
func (b *bench) command(ctx context.Context, path string, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, path, args...)
	c.Env = append(slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "AWS_") }),
		"PERDURE_STATE="+filepath.Join(b.dir, "state"), "AWS_EC2_METADATA_DISABLED=true",
		"AWS_ACCESS_KEY_ID="+b.servers.AccessKey, "AWS_SECRET_ACCESS_KEY="+b.servers.SecretKey, "AWS_REGION=us-east-1", "AWS_ENDPOINT_URL="+b.servers.S3,
		"RCLONE_CONFIG_B_TYPE=s3", "RCLONE_CONFIG_B_PROVIDER=Other", "RCLONE_CONFIG_B_ENDPOINT="+b.servers.S3, "RCLONE_CONFIG_B_ENV_AUTH=true",
		"RCLONE_CONFIG_B_REGION=us-east-1", "RCLONE_CONFIG_B_FORCE_PATH_STYLE=true", "RCLONE_CONFIG="+os.DevNull)
	return c
}

// A table has a row for each client. TO in a client's arguments is a new file, directory, key or prefix.
type table struct {
	name    string
	source  string // what is copied, as a path
	to      string // before what is new
	clients []client
	again   bool // the client has copied the same to the same place before
	times   int  // how many times as often as the others; 0 means 1
}

type client struct {
	name string
	args []string
}

func (b *bench) tables() []table {
	s3, url := "s3://"+bucket+"/", b.servers.Web+"/large.bin"
	ours := func(args ...string) client { return client{"perdure", append([]string{b.perdure, "copy"}, args...)} }
	rclone := func(args ...string) client { return client{"rclone", append([]string{"rclone"}, args...)} }
	aws := func(args ...string) client {
		return client{"aws-cli", append([]string{"aws", "s3", "cp", "--only-show-errors"}, args...)}
	}
	rclone16 := func(args ...string) client {
		return client{"rclone, 16", append([]string{"rclone", "--transfers", "16", "--checkers", "16"}, args...)}
	}
	digest := func(name string) client {
		return client{"perdure, " + name, []string{b.perdure, "copy", url + "?" + name, "TO"}}
	}
	start := table{name: "start: a small file from a URL", source: b.one, to: b.dir + "/", times: 10, clients: []client{
		ours(b.servers.Web+"/small.txt", "TO"), {"curl", []string{"curl", "--silent", "--fail", "--output", "TO", b.servers.Web + "/small.txt"}},
	}}
	tables := []table{
		start,
		{name: "URL down", source: b.large, to: b.dir + "/", clients: []client{
			ours(url, "TO"),
			{"curl", []string{"curl", "--silent", "--fail", "--output", "TO", url}},
			{"wget", []string{"wget", "--quiet", "--output-document", "TO", url}},
			{"aria2c", []string{"aria2c", "--quiet", "--dir", "/", "--out", "TO", url}},
		}},
		{name: "URL down, verified by a digest of the server", source: b.large, to: b.dir + "/", clients: []client{digest("crc32"), digest("crc32c"), digest("crc64nvme"), digest("md5"), digest("sha256")}},
		{name: "S3 down", source: b.large, to: b.dir + "/", clients: []client{ours(s3+"large.bin", "TO"), rclone("copyto", "b:"+bucket+"/large.bin", "TO"), aws(s3+"large.bin", "TO")}},
		{name: "S3 up", source: b.large, to: s3, clients: []client{ours(b.large, "TO"), rclone("copyto", b.large, "TO"), aws(b.large, "TO")}},
	}
	for _, files := range []struct{ name, dir string }{{"tree of 366 MB", b.tree}, {"small files", b.many}} {
		from := filepath.Base(files.dir)
		tables = append(tables,
			table{name: files.name + " down", source: files.dir, to: b.dir + "/", clients: []client{
				ours("-r", s3+from, "TO"), rclone("copy", "b:"+bucket+"/"+from, "TO"), rclone16("copy", "b:"+bucket+"/"+from, "TO"), aws("--recursive", s3+from, "TO"),
			}},
			table{name: files.name + " up", source: files.dir, to: s3, clients: []client{
				ours("-r", files.dir, "TO"), rclone("copy", files.dir, "TO"), rclone16("copy", files.dir, "TO"), aws("--recursive", files.dir, "TO"),
			}},
			table{name: files.name + ", nothing changed, down", source: files.dir, to: b.dir + "/", clients: b.sync(s3+from, "TO"), again: true},
			table{name: files.name + ", nothing changed, up", source: files.dir, to: s3, clients: b.sync(files.dir, "TO"), again: true},
		)
	}
	return tables
}

// sync returns the clients that make a directory, or the objects below a prefix, the same as another one.
func (b *bench) sync(from, to string) []client {
	return []client{
		{"perdure", []string{b.perdure, "sync", from, to}},
		{"rclone", []string{"rclone", "sync", strings.Replace(from, "s3://", "b:", 1), to}},
		{"aws-cli", []string{"aws", "s3", "sync", "--only-show-errors", from, to}},
	}
}

// A result is one copy.
type result struct {
	wall, cpu, server time.Duration
	rss               int64 // bytes
}

// measure writes a table.
func (b *bench) measure(ctx context.Context, w io.Writer, t table) error {
	var there []client
	for _, c := range t.clients {
		if _, err := exec.LookPath(c.args[0]); err == nil {
			there = append(there, c)
		} else {
			fmt.Fprintf(w, "\n%s: %s is not installed\n", t.name, c.name)
		}
	}
	if t.again {
		for _, c := range there {
			if _, err := b.once(ctx, t, c, 0); err != nil {
				return fmt.Errorf("%s, the first time: %w", c.name, err)
			}
		}
	}
	all := make([][]result, len(there))
	for n := range b.runs * max(t.times, 1) {
		for i := range there {
			k := (i + n) % len(there)
			if len(all[k]) == 3 && all[k][0].wall > b.slow {
				continue
			}
			r, err := b.once(ctx, t, there[k], n)
			if err != nil {
				return fmt.Errorf("%s: %w", there[k].name, err)
			}
			all[k] = append(all[k], r)
		}
	}
	fmt.Fprintf(w, "\n%s\n", t.name)
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(out, "\tcopies\twall s\tof the first\tCPU s\tRSS MiB\tserver CPU s\t\n")
	wall := func(i int) float64 { return median(all[i], func(r result) float64 { return r.wall.Seconds() }) }
	first := wall(0)
	for i := range there {
		first = min(first, wall(i))
	}
	for i, c := range there {
		fmt.Fprintf(out, "%s\t%d\t%.3f\t%.2f\t%.3f\t%d\t%.2f\t\n", c.name, len(all[i]), wall(i), wall(i)/first,
			median(all[i], func(r result) float64 { return r.cpu.Seconds() }), int64(median(all[i], func(r result) float64 { return float64(r.rss) }))>>20,
			median(all[i], func(r result) float64 { return r.server.Seconds() }))
	}
	return out.Flush()
}

func median(all []result, of func(result) float64) float64 {
	values := make([]float64, len(all))
	for i, r := range all {
		values[i] = of(r)
	}
	slices.Sort(values)
	return values[len(values)/2]
}

// once makes one copy, compares it and, unless it is made again, removes it.
func (b *bench) once(ctx context.Context, t table, c client, n int) (result, error) {
	to := fmt.Sprintf("%scopy-%d", t.to, n)
	if t.again {
		to = t.to + filepath.Base(t.source) + "-" + c.name
	}
	args := slices.Clone(c.args)
	for i, arg := range args {
		switch {
		case arg != "TO":
		case c.args[0] == "rclone":
			args[i] = strings.Replace(to, "s3://", "b:", 1)
		case c.name == "aria2c":
			args[i] = strings.TrimPrefix(to, "/") // it is below --dir
		default:
			args[i] = to
		}
	}
	if strings.HasPrefix(to, "s3://") && !t.again { // a server of its own, which forgets what is sent to it
		shared, err := b.servers, error(nil)
		if b.servers, err = start(ctx, b.size); err != nil {
			return result{}, err
		}
		defer func() { b.servers.stop(); b.servers = shared }()
	}
	command := b.command(ctx, args[0], args[1:]...)
	before, begun := b.servers.cpu(), time.Now()
	text, err := command.CombinedOutput()
	r := result{wall: time.Since(begun), server: b.servers.cpu() - before}
	if err != nil {
		return r, fmt.Errorf("%w: %s", err, text)
	}
	r.cpu = command.ProcessState.UserTime() + command.ProcessState.SystemTime()
	if usage, ok := command.ProcessState.SysUsage().(*syscall.Rusage); ok {
		r.rss = usage.Maxrss << 10
	}
	return r, b.compare(ctx, t, to)
}

// compare compares what was copied with its source, and removes a file unless it is copied to again.
func (b *bench) compare(ctx context.Context, t table, to string) (err error) {
	var got []byte
	key, isObject := strings.CutPrefix(to, "s3://"+bucket+"/")
	if isObject {
		var sum bytes.Buffer
		err = get(ctx, b.servers.Web+"/sum?key="+key, &sum)
		got = sum.Bytes()
	} else {
		got, err = sumOf(to)
	}
	if want := b.sums[t.source]; err == nil && !bytes.Equal(got, want) {
		err = errors.New("the copy is not what was sent")
	}
	if !isObject && !t.again {
		err = errors.Join(err, os.RemoveAll(to))
	}
	return err
}

// get writes the resource at a URL.
func get(ctx context.Context, url string, w io.Writer) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	_, err = io.Copy(w, res.Body)
	return err
}

func download(ctx context.Context, url, path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(get(ctx, url, f), f.Close())
}

// sumOf returns the SHA-256 of a file, or of the names and contents of the files below a directory.
func sumOf(path string) ([]byte, error) {
	h := sha256.New()
	err := filepath.WalkDir(path, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if rel, _ := filepath.Rel(path, name); rel != "." {
			_, _ = io.WriteString(h, filepath.ToSlash(rel))
		}
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		_, err = io.Copy(h, f)
		return errors.Join(err, f.Close())
	})
	return h.Sum(nil), err
}
