package main

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/testseed"
)

// withState is inProcess with a state directory that several runs share, and with that standard input.
func withState(t *testing.T, s *testServers, home, stdin string, args ...string) (int, string) {
	t.Helper()
	s.setenv(home, t.Setenv)
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	in := listFile(t, stdin)
	f, err := os.Open(in)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	a := &app{stdin: f, stdout: log, stderr: log, environ: os.Environ()}
	code := a.main(t.Context(), args)
	text, err := os.ReadFile(log.Name())
	if err != nil {
		t.Fatal(err)
	}
	return code, string(text)
}

// listFile returns the path of a file with that content.
func listFile(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "urls.csv")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// webPages is a server with pages that change, and counts what it sends.
type webPages struct {
	*httptest.Server

	mu     sync.Mutex
	text   map[string]string // by path; no page is a 404
	etags  map[string]bool   // pages with an ETag
	bodies []string          // paths that were sent
	asked  int
}

func startPages(t *testing.T) *webPages {
	t.Helper()
	p := &webPages{text: make(map[string]string), etags: make(map[string]bool)}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.asked++
		text, ok := p.text[r.URL.Path]
		etag := fmt.Sprintf(`"%x"`, sha256.Sum256([]byte(text)))
		if p.etags[r.URL.Path] && ok {
			w.Header().Set("ETag", etag)
		}
		switch {
		case !ok:
			w.WriteHeader(http.StatusNotFound)
		case p.etags[r.URL.Path] && r.Header.Get("If-None-Match") == etag:
			w.WriteHeader(http.StatusNotModified)
		default:
			w.Header().Set("Content-Length", fmt.Sprint(len(text)))
			_, _ = w.Write([]byte(text))
			if r.Header.Get("If-None-Match") == "" { // what is sent to that is not read
				p.bodies = append(p.bodies, r.URL.Path)
			}
		}
	}))
	t.Cleanup(p.Close)
	return p
}

// set sets a page, or removes it if text is "".
func (p *webPages) set(path, text string, etag bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.etags[path] = etag; text == "" {
		delete(p.text, path)
		return
	}
	p.text[path] = text
}

// sent returns the paths that were sent since the last call, in order.
func (p *webPages) sent() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := p.bodies
	p.bodies, p.asked = nil, 0
	slices.Sort(all)
	return all
}

func sha256Of(text string) string { return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(text))) }

// A list is CSV, with or without a header, or a URL in each line.
func TestFromFile(t *testing.T) {
	s, p := startTestServers(t), startPages(t)
	for _, name := range []string{"/a.csv", "/b.csv", "/d/c,1.csv"} {
		p.set(name, "content of "+name, true)
	}
	if err := s.store.Store("bikes", "in/o.csv", []byte("object")); err != nil {
		t.Fatal(err)
	}
	top := t.TempDir()
	plant(t, top, "local.csv")
	for _, row := range []struct {
		list string
		want []string
	}{
		{"URL/a.csv\nURL/b.csv\n", []string{"a.csv", "b.csv"}},
		{"URL/a.csv\r\n\r\n# a comment\r\n  URL/b.csv?x=1", []string{"a.csv", "b.csv"}},
		{"\ufeffURL\n", nil},
		{"\ufeffurl\nURL/a.csv\n", []string{"a.csv"}},
		{"URL/a.csv,x/y.csv," + sha256Of("content of /a.csv") + "\nURL/b.csv,,\n\"URL/d/c,1.csv\"\n", []string{"b.csv", "c,1.csv", "x/y.csv"}},
		{"Checksum, URL, Name\n, URL/a.csv, é ü.csv\n", []string{"é ü.csv"}},
		{"url,name\nURL/a.csv,1\nURL/a.csv,2\n", []string{"1", "2"}},
		{"s3://bikes/in/o.csv\n" + filepath.Join(top, "local.csv") + ",l\nURL/a.csv", []string{"a.csv", "l", "o.csv"}},
	} {
		list := strings.ReplaceAll(row.list, "URL/", p.URL+"/")
		for _, file := range []string{listFile(t, list), "-"} {
			into := t.TempDir()
			code, log := withState(t, s, t.TempDir(), list, "copy", "--from-file", file, into)
			if got := found(t, into); !slices.Equal(got, row.want) || (code == 0) != (len(row.want) > 0) {
				t.Errorf("%q: code %d, %q, want %q: %s", row.list, code, got, row.want, log)
			}
			code, log = withState(t, s, t.TempDir(), list, "copy", "--from-file", file, "s3://bikes/out"+into+"/")
			if got := s.stored("out" + into + "/"); !slices.Equal(got, row.want) || (code == 0) != (len(row.want) > 0) {
				t.Errorf("%q: code %d, %q, want %q: %s", row.list, code, got, row.want, log)
			}
		}
	}
}

// A second run does what is left: it copies what failed, what has changed on either side, and what nothing is known of.
func TestFromFileAgain(t *testing.T) {
	for _, store := range []bool{false, true} {
		s, p := startTestServers(t), startPages(t)
		home, into := t.TempDir(), t.TempDir()
		dst := into
		if store {
			dst = "s3://bikes/out/"
		}
		list := listFile(t, fmt.Sprintf("%[1]s/tagged\n%[1]s/bare\n%[1]s/late\n%[1]s/summed,,%[2]s\n%[1]s/wrong,,%[2]s\n", p.URL, sha256Of("summed")))
		for _, name := range []string{"tagged", "bare", "summed", "wrong"} {
			p.set("/"+name, name, name == "tagged")
		}
		run := func(what string, code int, want ...string) {
			t.Helper()
			got, log := withState(t, s, home, "", "copy", "--from-file", list, dst)
			if sent := p.sent(); got != code || !slices.Equal(sent, want) {
				t.Errorf("store %v, %s: code %d, sent %q, want %d and %q: %s", store, what, got, sent, code, want, log)
			}
		}
		run("first", 1, "/bare", "/summed", "/tagged", "/wrong")
		p.set("/late", "late", true)
		p.set("/wrong", "summed", false)
		run("what failed", 0, "/bare", "/late", "/wrong")
		run("nothing but what has no validator", 0, "/bare")
		p.set("/tagged", "other", true)
		p.set("/summed", "other", true)
		run("changed in SRC", 0, "/bare", "/tagged")
		if store {
			if err := s.store.Store("bikes", "out/tagged", []byte("spoil")); err != nil {
				t.Fatal(err)
			}
			if err := s.store.Store("bikes", "out/wrong", []byte("spoilt")); err != nil {
				t.Fatal(err)
			}
		} else {
			plant(t, into, "wrong")
			if err := os.WriteFile(filepath.Join(into, "tagged"), []byte("spoil"), 0o600); err != nil { // of the same size
				t.Fatal(err)
			}
		}
		run("changed in DST", 0, "/bare", "/tagged", "/wrong")
		if code, log := withState(t, s, home, "", "copy", "--from-file", list, dst, "--dry-run"); code != 0 || !strings.Contains(log, "Would skip") || len(p.sent()) > 0 {
			t.Errorf("dry run: code %d: %s", code, log)
		}
		home = t.TempDir() // the state is lost: what has no checksum is copied again, and what has one that the store has not
		p.set("/summed", "summed", true)
		if store {
			run("without state", 0, "/bare", "/late", "/summed", "/tagged", "/wrong")
		} else {
			run("without state", 0, "/bare", "/late", "/tagged")
		}
	}
}

// Whatever changes on both sides between the runs: after a run, DST has what SRC has, or the run has failed. The naive twin copies all.
func TestFromFileIsNeverWrong(t *testing.T) {
	random := rand.New(rand.NewPCG(testseed.Of(t, 16), 0)) //nolint:gosec // a test
	s, p := startTestServers(t), startPages(t)
	home, into := t.TempDir(), t.TempDir()
	var lines strings.Builder
	for i := range 8 {
		fmt.Fprintf(&lines, "%s/%d\n", p.URL, i)
	}
	list := listFile(t, lines.String())
	for round := range 25 {
		want := make(map[string]string)
		for i := range 8 {
			path := fmt.Sprintf("/%d", i)
			switch random.IntN(4) {
			case 0:
				p.set(path, fmt.Sprint("text ", random.IntN(3)), random.IntN(3) > 0)
			case 1:
				p.set(path, "", true)
			case 2:
				spoilOne(t, random, filepath.Join(into, path))
			}
			p.mu.Lock()
			if text, ok := p.text[path]; ok {
				want[path] = text
			}
			p.mu.Unlock()
		}
		code, log := withState(t, s, home, "", "copy", "--from-file", list, into)
		if (code == 0) != (len(want) == 8) {
			t.Errorf("round %d: code %d with %d of 8 pages: %s", round, code, len(want), log)
		}
		for path, text := range want {
			if got, err := os.ReadFile(filepath.Join(into, path)); err != nil || string(got) != text {
				t.Errorf("round %d: %s has %q, %v; want %q: %s", round, path, got, err, text, log)
			}
		}
	}
}

// spoilOne removes a file, or writes another text of the same size.
func spoilOne(t *testing.T, random *rand.Rand, path string) {
	t.Helper()
	err := os.Remove(path)
	if err == nil && random.IntN(2) == 0 {
		err = os.WriteFile(path, fmt.Append(nil, "text ", random.IntN(3)), 0o600)
	}
	if err != nil && !os.IsNotExist(err) {
		t.Error(err)
	}
}

// A file with a bad line copies nothing. The error has the line, the value and what is allowed.
func TestFromFileThatIsBad(t *testing.T) {
	s, p := startTestServers(t), startPages(t)
	p.set("/a", "a", true)
	long := strings.Repeat("x", 1025)
	for _, row := range []struct{ list, want string }{
		{"URL/a,../x", `invalid value "../x" for name of line 1 of --from-file FILE: must be a path below DST`},
		{"\n\nURL/a,/etc/x", `invalid value "/etc/x" for name of line 3 of`},
		{"URL/a,x/../../y", "for name of line 1"},
		{"URL/a,.", "for name of line 1"},
		{"URL/a,..", "for name of line 1"},
		{"URL/a,x//y", "for name of line 1"},
		{"URL/a,x/", "for name of line 1"},
		{`URL/a,x\y`, "for name of line 1"},
		{"URL/a,\"x\ny\"", "for name of line 1"},
		{"URL/a,x\x00y", "for name of line 1"},
		{"URL/a,\xff", "for name of line 1"},
		{"URL/a," + long, "at most 1024 bytes"},
		{"URL/a\nURL/x/a", `invalid value "a" for name of line 2 of --from-file FILE: must be a name that no other line has, also as a directory; see line 1`},
		{"URL/a,d\nURL/a,d/e/f", "see line 1"},
		{"URL/a,d/e/f\nURL/a,d/e", "see line 1"},
		{"URL/", "must be an address with a name at its end, if the line has no name"},
		{"URL/a\nftp://example.org/x", `invalid value "ftp://example.org/x" for URL of line 2 of --from-file FILE: must be a file, - for standard input, an http or https URL, or s3://BUCKET/KEY`},
		{"-,x", "must be an address with a name"},
		{",x", "for URL of line 1"},
		{"URL/a,x,sha256:12", `invalid value "sha256:12" for checksum of line 1`},
		{"URL/a,x,,y", "must be at most 3 columns: url, name, checksum; a URL with commas in quotes"},
		{"url,nam\nURL/a,x", `invalid value "nam" for the header in line 1 of --from-file FILE: must be url, name or checksum, each once`},
		{"url,url\nURL/a,x", "each once"},
		{"url\nURL/a,x", "at most 1 columns"},
		{"URL/a\nURL/\"b\"", `for line 2 of --from-file FILE: must be CSV`},
		{"URL/a\n\"URL/b", `must be CSV`},
		{"http://user:" + secret + "@host:x/?token=" + secret, "for URL of line 1"},
		{"URL/a?token=" + secret + ",..", "for name of line 1"},
		{"http://h/" + strings.Repeat("x", 17<<10), "must be at most 16384 bytes"},
	} {
		file := listFile(t, strings.ReplaceAll(row.list, "URL/", p.URL+"/"))
		code, log := withState(t, s, t.TempDir(), "", "copy", "--from-file", file, t.TempDir())
		if want := strings.ReplaceAll(row.want, "FILE", file); code != 64 || !strings.Contains(log, want) || strings.Contains(log, secret) {
			t.Errorf("%.80q: code %d, want 64 and %q: %.500s", row.list, code, want, log)
		}
	}
	if p.asked > 0 {
		t.Errorf("%d requests were sent", p.asked)
	}
	file := listFile(t, p.URL+"/a\n")
	for _, row := range []struct {
		args []string
		want string
	}{
		{[]string{"--from-file", file}, "must be one with --from-file: DST"},
		{[]string{"--from-file", file, "a", "."}, "must be one with --from-file: DST"},
		{[]string{"--from-file", "", "."}, `for --from-file: must be a file with URLs`},
		{[]string{"--from-file", file + ".absent", "."}, "must be a file that can be read (no such file"},
		{[]string{"--from-file", file, "." + "/absent"}, "for DST: must be a directory that exists"},
		{[]string{"--from-file", file, "s3://bikes/x"}, "for DST: must be a directory that exists"},
		{[]string{"--from-file", file, "-"}, "for DST"},
		{[]string{"--from-file", file, "-r", "."}, "--from-file cannot be used with --recursive"},
		{[]string{"--from-file", file, "--checksum", "md5:00", "."}, "--checksum is for one file"},
		{[]string{"--from-file", file, "--data", "x", "."}, "--data is for one file"},
	} {
		if code, log := withState(t, s, t.TempDir(), "", append([]string{"copy"}, row.args...)...); code != 64 || !strings.Contains(log, row.want) {
			t.Errorf("%q: code %d, want 64 and %q: %s", row.args, code, row.want, log)
		}
	}
	if code, log := withState(t, s, t.TempDir(), "", "sync", "--from-file", file, "."); code != 64 {
		t.Errorf("sync: code %d: %s", code, log)
	}
}

// The breaker of one server that is down does not keep the files of another from being copied, and opens after few requests.
func TestFromFileWithAServerThatIsDown(t *testing.T) {
	s, p := startTestServers(t), startPages(t)
	var down sync.Map
	broken := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		down.Store(r.URL.Path, true)
		w.WriteHeader(http.StatusInternalServerError)
	}))
	defer broken.Close()
	var lines strings.Builder
	for i := range 40 {
		fmt.Fprintf(&lines, "%s/down%d\n", broken.URL, i)
	}
	for i := range 10 {
		p.set(fmt.Sprintf("/up%d", i), "up", true)
		fmt.Fprintf(&lines, "%s/up%d\n", p.URL, i)
	}
	into := t.TempDir()
	manifest := filepath.Join(t.TempDir(), "m")
	code, log := withState(t, s, t.TempDir(), "", "copy", "--from-file", listFile(t, lines.String()), into, "--max-attempts", "1", "--failure-threshold", "3", "--parallel", "1", "--manifest", manifest)
	if got := found(t, into); code != 69 || len(got) != 10 || !strings.Contains(log, "40 of 50 files were not copied: ") {
		t.Errorf("code %d, %q: %s", code, got, log)
	}
	n := 0
	down.Range(func(any, any) bool { n++; return true })
	if n != 3 {
		t.Errorf("%d of 40 files were requested from the server that is down, want 3", n)
	}
	text, err := os.ReadFile(manifest)
	if err != nil || strings.Count(string(text), `"action":"failed"`) != 40 || strings.Count(string(text), `"action":"copied"`) != 10 {
		t.Errorf("%v: %s", err, text)
	}
}

// A signed URL is the same with another signature, and its secrets are in no output and no state.
func TestFromFileOfSignedURLs(t *testing.T) {
	s, p := startTestServers(t), startPages(t)
	p.set("/a", "a", true)
	home, into := t.TempDir(), t.TempDir()
	manifest := filepath.Join(home, "manifest")
	var logs strings.Builder
	for round, want := range [][]string{{"/a"}, nil} {
		list := listFile(t, fmt.Sprintf("%s/a?X-Amz-Signature=%s%d&token=%s\n%s/absent?token=%s\n", strings.Replace(p.URL, "://", "://user:"+secret+"@", 1), secret, round, secret, p.URL, secret))
		code, log := withState(t, s, home, "", "copy", "--from-file", list, into, "--manifest", manifest, "--log-level", "debug")
		if sent := p.sent(); code != 1 || !slices.Equal(sent, want) {
			t.Errorf("round %d: code %d, sent %q, want %q: %s", round, code, sent, want, log)
		}
		logs.WriteString(log)
	}
	for _, dir := range []string{home, into} {
		for _, name := range found(t, dir) {
			text, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			logs.Write(text)
		}
	}
	if strings.Contains(logs.String(), secret) || !strings.Contains(logs.String(), `"source":"`+p.URL[:4]) {
		t.Error(logs.String())
	}
}

// What does not identify the content is not believed: a weak ETag, and a Last-Modified within the second of the response.
func TestFromFileValidators(t *testing.T) {
	s := startTestServers(t)
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, row := range []struct {
		etag     string
		modified time.Time
		deaf     bool // the server ignores conditions
		want     int  // bodies after two runs
	}{
		{`"strong"`, time.Time{}, false, 1},
		{`W/"weak"`, time.Time{}, false, 2},
		{"", now.Add(-time.Hour), false, 1},
		{"", now, false, 2},
		{`W/"weak"`, now.Add(-time.Hour), false, 1},
		{"", time.Time{}, false, 2},
		{`"strong"`, now.Add(-time.Hour), true, 2}, // the second one is not read
		{"", now.Add(-time.Hour), true, 3},
	} {
		bodies := 0
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Date", now.Format(http.TimeFormat))
			if row.etag != "" {
				w.Header().Set("ETag", row.etag)
			}
			if !row.modified.IsZero() {
				w.Header().Set("Last-Modified", row.modified.Format(http.TimeFormat))
			}
			if !row.deaf && r.Header.Get("If-None-Match")+r.Header.Get("If-Modified-Since") != "" {
				w.WriteHeader(http.StatusNotModified)
				return
			}
			bodies++
			_, _ = w.Write([]byte("page"))
		}))
		home, into, list := t.TempDir(), t.TempDir(), listFile(t, server.URL+"/page")
		for range 2 {
			if code, log := withState(t, s, home, "", "copy", "--from-file", list, into); code != 0 {
				t.Errorf("%+v: code %d: %s", row, code, log)
			}
		}
		if server.Close(); bodies != row.want {
			t.Errorf("%+v: %d bodies, want %d", row, bodies, row.want)
		}
	}
}
