package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/seed-0f2c7998/perdure/httpretry/httptestfault"
	"github.com/seed-0f2c7998/perdure/s3test"
)

// TestCopy runs the scripts of copy, each against an S3 store and a web server
// of its own. ENDPOINT and WEB are their addresses. Besides the usual commands
// there are
//
//	status CODE COMMAND...     the command ends with that exit code
//	strike N FAULT METHOD      the next N requests of that method to the store fail so
//	weather SEED               every fourth request to the store fails
//	requests N METHOD [PATH]   the store got N of them since the last such line
//	abandon KEY...             begin uploads, and never complete them
//	unfinished N               there are so many of those in the store
//	asked N PATH               the web server got N requests for that path
//	tidy DIR                   no unfinished file is left there
func TestCopy(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/copy", RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			s := startTestServers(t)
			env.Values[serversKey{}] = s
			s.setenv(env.WorkDir, env.Setenv)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"status": status,
			"tidy":   tidy,
			"strike": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Check(serversOf(ts).strike(args))
			},
			"abandon": func(ts *testscript.TestScript, _ bool, args []string) {
				for _, key := range args {
					ts.Check(serversOf(ts).abandon(key))
				}
			},
			"unfinished": func(ts *testscript.TestScript, _ bool, args []string) {
				if left := serversOf(ts).store.Uploads(); fmt.Sprint(len(left)) != args[0] {
					ts.Fatalf("there are %v", left)
				}
			},
			"weather": func(ts *testscript.TestScript, _ bool, args []string) {
				seed, err := strconv.ParseUint(args[0], 10, 64)
				ts.Check(err)
				ts.Check(serversOf(ts).store.SetFaults(weather(seed)))
			},
			"requests": func(ts *testscript.TestScript, _ bool, args []string) {
				store := serversOf(ts).store
				if got := store.Count(args[1], strings.Join(args[2:], "")); fmt.Sprint(got) != args[0] {
					ts.Fatalf("the store got %d requests %v", got, args[1:])
				}
				store.Reset()
			},
			"asked": func(ts *testscript.TestScript, _ bool, args []string) {
				if got := serversOf(ts).asked(args[1]); fmt.Sprint(got) != args[0] {
					ts.Fatalf("the web server got %d requests for %s", got, args[1])
				}
			},
		},
	})
}

type serversKey struct{}

func serversOf(ts *testscript.TestScript) *testServers {
	s, ok := ts.Value(serversKey{}).(*testServers)
	if !ok {
		ts.Fatalf("the script has no servers")
	}
	return s
}

func status(ts *testscript.TestScript, _ bool, args []string) {
	got := 0
	err := ts.Exec(args[1], args[2:]...)
	if exited, ok := errors.AsType[*exec.ExitError](err); ok {
		got = exited.ExitCode()
	} else {
		ts.Check(err)
	}
	if fmt.Sprint(got) != args[0] {
		ts.Fatalf("exit code %d, want %s", got, args[0])
	}
}

func tidy(ts *testscript.TestScript, _ bool, args []string) {
	left, err := filepath.Glob(filepath.Join(ts.MkAbs(args[0]), ".*.part*"))
	ts.Check(err)
	ours, err := filepath.Glob(filepath.Join(ts.MkAbs(args[0]), ".perdure-*"))
	ts.Check(err)
	left = append(left, ours...)
	if len(left) > 0 {
		ts.Fatalf("left behind: %v", left)
	}
}

// testServers are a store with the bucket bikes, and a web server.
type testServers struct {
	store *s3test.Server
	web   *httptestfault.Server
}

func startTestServers(t *testing.T) *testServers {
	t.Helper()
	s := &testServers{
		store: s3test.Start(t, s3test.Options{Buckets: []string{"bikes"}}),
		web:   httptestfault.New(webScript()),
	}
	t.Cleanup(s.web.Close)
	return s
}

// environ is what the command needs to find the store, and nothing of the
// user's.
func (s *testServers) environ(home string) []string {
	return []string{
		"HOME=" + home, "AWS_EC2_METADATA_DISABLED=true", "AWS_ENDPOINT_URL=" + s.store.URL,
		"AWS_ACCESS_KEY_ID=" + s.store.AccessKey, "AWS_SECRET_ACCESS_KEY=" + s.store.SecretKey,
		"GORACE=atexit_sleep_ms=0", "ENDPOINT=" + s.store.URL, "WEB=" + s.web.URL, "PERDURE_BASE_DELAY=0.002", "PERDURE_JITTER=0",
		"PERDURE_STATE=" + filepath.Join(home, "state"), "PERDURE_STORE=memory", // each copy has enough to do with itself
	}
}

// setenv makes that the environment of a command in this process, or of a script.
func (s *testServers) setenv(home string, set func(name, value string)) {
	for _, pair := range s.environ(home) {
		name, value, _ := strings.Cut(pair, "=")
		set(name, value)
	}
}

func (s *testServers) asked(path string) (n int) {
	for _, r := range s.web.Requests() {
		if r.Target == path {
			n++
		}
	}
	return n
}

// client is one of the AWS SDK alone.
func (s *testServers) client() *s3.Client {
	return s3.New(s3.Options{
		BaseEndpoint: aws.String(s.store.URL), UsePathStyle: true, Region: "us-east-1",
		Credentials: credentials.NewStaticCredentialsProvider(s.store.AccessKey, s.store.SecretKey, ""),
	})
}

// abandon begins an upload in parts.
func (s *testServers) abandon(key string) error {
	_, err := s.client().CreateMultipartUpload(context.Background(), &s3.CreateMultipartUploadInput{Bucket: aws.String("bikes"), Key: &key})
	return err
}

func (s *testServers) strike(args []string) error {
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	fault, ok := map[string]s3test.Fault{
		"SlowDown": s3test.SlowDown(), "AccessDenied": s3test.AccessDenied(), "Reset": s3test.Reset(),
		"LostResponse": s3test.LostResponse(), "CutBody": s3test.CutBody(3000),
	}[args[1]]
	if !ok {
		return fmt.Errorf("no fault %s", args[1])
	}
	var mu sync.Mutex // of n: many requests come at once
	s.store.SetScript(func(r s3test.Request) s3test.Fault {
		mu.Lock()
		defer mu.Unlock()
		if r.Method != args[2] || n == 0 {
			return s3test.Fault{}
		}
		n--
		return fault
	})
	return nil
}

// weather is a quarter of all requests failing, without those that ask for a
// wait: that is a second at least.
func weather(seed uint64) s3test.Faults {
	faults := s3test.TypicalFaults(seed)
	faults.TooManyRequests, faults.SlowTime = 0, 1
	return faults
}

// webScript responds to each path with a fault of its own.
func webScript() httptestfault.Script {
	body := generated(1<<20 + 7)
	seen := map[string]int{}
	return func(_ int, r *http.Request) httptestfault.Response {
		whole := httptestfault.Resource{Body: body, ETag: `"1"`}.Respond(r)
		seen[r.URL.Path]++
		first := seen[r.URL.Path] == 1
		switch r.URL.Path {
		case "/whole.bin":
			return whole
		case "/resumed.bin":
			if first {
				return whole.With(httptestfault.ResetBody(300_000))
			}
			return whole
		case "/untagged.bin", "/never.bin": // nothing to resume by
			step := httptestfault.Response{Body: body}
			if first || r.URL.Path == "/never.bin" {
				step = step.With(httptestfault.CutBody(500_000))
			}
			return step
		case "/unmarked.bin":
			return httptestfault.Response{Body: body, Framing: httptestfault.UntilClose}
		case "/halves.bin", "/halves2.bin": // its rest is to be had later
			if first {
				return whole.With(httptestfault.CutBody(600_000))
			}
			if seen[r.URL.Path] == 2 {
				return httptestfault.Response{Status: http.StatusServiceUnavailable}
			}
			return whole
		case "/nine":
			return httptestfault.Resource{Body: []byte("123456789"), ETag: `"9"`}.Respond(r)
		case "/later.bin":
			return httptestfault.Response{Status: http.StatusTooManyRequests, Header: http.Header{"Retry-After": {"3600"}}}
		case "/busy.bin":
			return httptestfault.Response{Status: http.StatusServiceUnavailable}
		case "/forbidden.bin":
			return httptestfault.Response{Status: http.StatusForbidden}
		}
		return httptestfault.Response{Status: http.StatusNotFound}
	}
}

// generated returns n bytes that are always the same.
func generated(n int) []byte {
	random := rand.NewChaCha8([32]byte{1})
	content := make([]byte, n)
	_, _ = random.Read(content) // never fails
	return content
}

// TestCopyThroughWeather carries files to a store and back 100 times, each time
// through other faults: every fourth request fails.
func TestCopyThroughWeather(t *testing.T) {
	most := uint64(30)
	if os.Getenv("PERDURE_TEST_LONG") != "" {
		most = 300
	}
	files, rounds := map[string][]byte{"generated.bin": generated(1_100_000)}, map[string]uint64{"generated.bin": most}
	data := os.Getenv("PERDURE_TESTDATA")
	if data == "" {
		data = filepath.Join("..", "..", "..", "shared", "data", "bike-sharing")
	}
	if hours, err := os.ReadFile(filepath.Join(data, "hour.csv")); err == nil {
		files["hour.csv"], rounds["hour.csv"] = hours, most
		rounds["generated.bin"] = most / 5 // of the same size: a few will do
	} else {
		t.Logf("SKIPPED: the real file: %v; PERDURE_TESTDATA names its directory", err)
	}
	s := startTestServers(t)
	s.setenv(t.TempDir(), t.Setenv)
	for name, content := range files {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			from, back := filepath.Join(dir, name), filepath.Join(dir, "back")
			if err := os.WriteFile(from, content, 0o600); err != nil {
				t.Fatal(err)
			}
			for seed := range rounds[name] {
				if err := s.store.SetFaults(weather(seed)); err != nil {
					t.Fatal(err)
				}
				s.store.Reset()
				mustCopy(t, from, "s3://bikes/"+name)
				if stored, _ := s.store.Object("bikes", name); !bytes.Equal(stored, content) {
					t.Fatalf("seed %d: the store has %d other bytes, want %d", seed, len(stored), len(content))
				}
				mustCopy(t, "s3://bikes/"+name, back)
				if got, err := os.ReadFile(back); err != nil || !bytes.Equal(got, content) {
					t.Fatalf("seed %d: back came %d other bytes (%v), want %d", seed, len(got), err, len(content))
				}
			}
			if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// mustCopy runs the command in this process.
func mustCopy(t *testing.T, from, to string) {
	t.Helper()
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	a := &app{stdin: os.Stdin, stdout: log, stderr: log, environ: os.Environ()}
	if code := a.main(t.Context(), []string{"copy", from, to}); code != 0 {
		text, _ := os.ReadFile(log.Name())
		t.Fatalf("copy %s %s: exit code %d\n%s", from, to, code, text)
	}
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// secret is what must be in nothing that the command writes.
const secret = "hunter2"
