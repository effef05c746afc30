// Command copies measures the command perdure beside curl, wget, aria2c, rclone and the AWS CLI, those that are installed:
// a large file from a URL and from an S3 server, to an S3 server, many small files in both directions, the same again when
// nothing has changed, and a small file, which shows how long a client takes to start.
//
//	go run ./copies -perdure PATH [-size 1024] [-files 2000] [-runs 9] [-only "URL down"] [-dir /dev/shm]
//
// The servers are in this process, and keep everything in memory; so are the files if -dir is /dev/shm. The clients are
// processes that take turns, so time, CPU and memory are of the client alone. Each copy is compared with its source. A
// client that is not installed is skipped, and named.
package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
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
	only    string
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
	flag.IntVar(&s.files, "files", 2000, "small files, of 4 KiB")
	flag.IntVar(&s.runs, "runs", 9, "copies of each kind")
	flag.StringVar(&s.only, "only", "", "part of the name of the tables that are wanted")
	flag.StringVar(&s.dir, "dir", "/dev/shm", "directory for the files")
	flag.Parse()
	s.size = *size << 20
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
	sum     [sha256.Size]byte // of the large file
	large   string            // the large file, to be sent
	tree    string            // the directory with the small files
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
	fmt.Fprintf(w, "A file of %d MiB, and %d files of 4 KiB; medians of %d runs in turn, over loopback. CPU and RSS are the client's.\n", s.size>>20, s.files, s.runs)
	for _, t := range b.tables() {
		if strings.Contains(t.name, s.only) {
			if err := b.measure(ctx, w, t); err != nil {
				return fmt.Errorf("%s: %w", t.name, err)
			}
		}
	}
	return nil
}

// prepare makes the files, and the objects for the downloads.
func (b *bench) prepare(ctx context.Context) error {
	b.large, b.tree = filepath.Join(b.dir, "large.bin"), filepath.Join(b.dir, "tree")
	if err := errors.Join(download(ctx, b.servers.Web+"/large.bin", b.large), os.Mkdir(b.tree, 0o700)); err != nil {
		return err
	}
	var err error
	if b.sum, err = sumOf(b.large); err != nil {
		return err
	}
	random, piece := rand.NewChaCha8([32]byte{2}), make([]byte, 4<<10)
	for n := range b.files {
		_, _ = random.Read(piece)
		if err := os.WriteFile(filepath.Join(b.tree, fmt.Sprintf("%05d.bin", n)), piece, 0o600); err != nil {
			return err
		}
	}
	for _, args := range [][]string{
		{"copy", b.large, "s3://" + bucket + "/large.bin"},
		{"copy", "-r", b.tree, "s3://" + bucket + "/tree"},
	} {
		if out, err := b.command(ctx, b.perdure, args...).CombinedOutput(); err != nil {
			return fmt.Errorf("%v: %w: %s", args, err, out)
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
	to      string // before what is new
	clients []client
	again   bool // the client has copied the same to the same place before
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
	digest := func(name string) client {
		return client{"perdure, " + name, []string{b.perdure, "copy", url + "?" + name, "TO"}}
	}
	same := func(up bool) []client {
		pair := func(local, store string) []string {
			if up {
				return []string{local, store}
			}
			return []string{store, local}
		}
		local := b.tree
		if !up {
			local = "TO"
		}
		store := func(scheme string) string {
			if up {
				return "TO"
			}
			return scheme + bucket + "/tree"
		}
		return []client{
			{"perdure", append([]string{b.perdure, "sync"}, pair(local, store("s3://"))...)},
			rclone(append([]string{"sync"}, pair(local, store("b:"))...)...),
			{"aws-cli", append([]string{"aws", "s3", "sync", "--only-show-errors"}, pair(local, store("s3://"))...)},
		}
	}
	return []table{
		{name: "start: a small file from a URL", to: b.dir + "/", clients: []client{
			ours(b.servers.Web+"/small.txt", "TO"), {"curl", []string{"curl", "--silent", "--fail", "--output", "TO", b.servers.Web + "/small.txt"}},
		}},
		{name: "URL down", to: b.dir + "/", clients: []client{
			ours(url, "TO"),
			{"curl", []string{"curl", "--silent", "--fail", "--output", "TO", url}},
			{"wget", []string{"wget", "--quiet", "--output-document", "TO", url}},
			{"aria2c", []string{"aria2c", "--quiet", "--dir", "/", "--out", "TO", url}},
		}},
		{name: "URL down, verified by a digest of the server", to: b.dir + "/", clients: []client{digest("crc32"), digest("crc32c"), digest("crc64nvme"), digest("md5"), digest("sha256")}},
		{name: "S3 down", to: b.dir + "/", clients: []client{ours(s3+"large.bin", "TO"), rclone("copyto", "b:"+bucket+"/large.bin", "TO"), aws(s3+"large.bin", "TO")}},
		{name: "S3 up", to: s3, clients: []client{ours(b.large, "TO"), rclone("copyto", b.large, "TO"), aws(b.large, "TO")}},
		{name: "small files down", to: b.dir + "/", clients: []client{ours("-r", s3+"tree", "TO"), rclone("copy", "b:"+bucket+"/tree", "TO"), aws("--recursive", s3+"tree", "TO")}},
		{name: "small files up", to: s3, clients: []client{ours("-r", b.tree, "TO"), rclone("copy", b.tree, "TO"), aws("--recursive", b.tree, "TO")}},
		{name: "nothing changed, down", to: b.dir + "/", clients: same(false), again: true},
		{name: "nothing changed, up", to: s3, clients: same(true), again: true},
	}
}

// A result is one copy.
type result struct {
	wall, cpu time.Duration
	rss       int64 // bytes
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
	for n := range b.runs {
		for i := range there {
			k := (i + n) % len(there)
			r, err := b.once(ctx, t, there[k], n)
			if err != nil {
				return fmt.Errorf("%s: %w", there[k].name, err)
			}
			all[k] = append(all[k], r)
		}
	}
	fmt.Fprintf(w, "\n%s\n", t.name)
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(out, "\twall s\tCPU s\tRSS MiB\t\n")
	for i, c := range there {
		fmt.Fprintf(out, "%s\t%.2f\t%.2f\t%d\t\n", c.name,
			median(all[i], func(r result) float64 { return r.wall.Seconds() }), median(all[i], func(r result) float64 { return r.cpu.Seconds() }),
			int64(median(all[i], func(r result) float64 { return float64(r.rss) }))>>20)
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
		to = t.to + "same-" + c.name
	}
	args := slices.Clone(c.args)
	for i, arg := range args {
		switch {
		case arg != "TO":
		case c.name == "rclone":
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
	begun := time.Now()
	text, err := command.CombinedOutput()
	r := result{wall: time.Since(begun)}
	if err != nil {
		return r, fmt.Errorf("%w: %s", err, text)
	}
	r.cpu = command.ProcessState.UserTime() + command.ProcessState.SystemTime()
	if usage, ok := command.ProcessState.SysUsage().(*syscall.Rusage); ok {
		r.rss = usage.Maxrss << 10
	}
	return r, b.compare(ctx, to, t.again)
}

// compare compares what was copied with its source, and removes a file unless it is copied to again.
func (b *bench) compare(ctx context.Context, to string, again bool) error {
	key, isObject := strings.CutPrefix(to, "s3://"+bucket+"/")
	switch {
	case again && isObject:
		return nil // the server has the objects of several clients; "small files up" compares
	case again:
		return b.compareFiles(to)
	case isObject:
		return b.compareObjects(ctx, key)
	}
	return errors.Join(b.compareFiles(to), os.RemoveAll(to))
}

// compareFiles compares downloaded files with their sources.
func (b *bench) compareFiles(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		got, err := sumOf(path)
		if err == nil && got != b.sum && info.Size() != int64(len(small)) {
			err = errors.New("the file is not what was sent")
		}
		return err
	}
	got, err := filepath.Glob(filepath.Join(path, "*"))
	if err == nil && len(got) != b.files {
		err = fmt.Errorf("%d files came of %d", len(got), b.files)
	}
	return err
}

// compareObjects compares uploaded objects with their sources.
func (b *bench) compareObjects(ctx context.Context, key string) error {
	var text strings.Builder
	if err := get(ctx, b.servers.Web+"/objects?key="+key, &text); err != nil {
		return err
	}
	if got := strings.TrimSpace(text.String()); got != "1 true" && got != fmt.Sprint(b.files, " false") {
		return fmt.Errorf("objects that came, and whether the large one is right: %s", got)
	}
	return nil
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

func sumOf(path string) (sum [sha256.Size]byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return sum, err
	}
	defer func() { _ = f.Close() }()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return [sha256.Size]byte(h.Sum(nil)), err
}
