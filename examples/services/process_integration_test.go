//go:build integration && unix

package services

import (
	"bufio"
	"bytes"
	"log"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// programs is the directory of the five programs.
var programs string

// TestMain builds the programs.
func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

func buildAndRun(m *testing.M) int {
	var err error
	if programs, err = os.MkdirTemp("", "services"); err != nil {
		log.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(programs) }()
	if out, err := exec.Command("go", "build", "-o", programs, "./...").CombinedOutput(); err != nil {
		log.Printf("go build: %v: %s", err, out)
		return 1
	}
	return m.Run()
}

// A process is one of the programs, as its operator has it: with an address for /metrics, a log, and signals.
type process struct {
	t       *testing.T
	command *exec.Cmd
	stdout  bytes.Buffer
	log     *bufio.Scanner
	metrics string // the URL
	spans   int    // of attempts, in the log
}

// start starts a program, with env in addition to this process's environment, and waits until it serves /metrics.
func start(t *testing.T, env []string, program string, args ...string) *process {
	t.Helper()
	p := &process{t: t, command: exec.CommandContext(t.Context(), filepath.Join(programs, program), append(args, "-admin", "127.0.0.1:0")...)}
	p.command.Stdout, p.command.Env = &p.stdout, append(os.Environ(), env...)
	stderr, err := p.command.StderrPipe()
	if err == nil {
		err = p.command.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	p.log = bufio.NewScanner(stderr)
	p.metrics = p.await(`metrics url=(\S+)`)
	return p
}

// await reads the log until a line matches pattern, and returns its submatch, if the pattern has one.
func (p *process) await(pattern string) string {
	p.t.Helper()
	var seen strings.Builder
	for expr := regexp.MustCompile(pattern); p.log.Scan(); {
		line := p.log.Text()
		if strings.Contains(line, "span name=perdure.attempt") {
			p.spans++
		} else {
			seen.WriteString(line + "\n")
		}
		if match := expr.FindStringSubmatch(line); match != nil {
			return match[len(match)-1]
		}
	}
	p.t.Fatalf("the log ended without %q: %s%v", pattern, seen.String(), p.command.Wait())
	return ""
}

// stop sends SIGTERM to the process, and checks that it ends with the exit code 0.
func (p *process) stop() {
	p.t.Helper()
	if err := p.command.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatal(err)
	}
	for p.log.Scan() { // until the end
	}
	if err := p.command.Wait(); err != nil {
		p.t.Errorf("%s ended with %v after SIGTERM", p.command.Args[0], err)
	}
}

// metric returns the sum of the samples of a metric whose labels include all of labels, such as operation="x". It fails
// the test if /metrics has no such sample.
func (p *process) metric(name string, labels ...string) (sum float64) {
	p.t.Helper()
	req, err := http.NewRequestWithContext(p.t.Context(), http.MethodGet, p.metrics, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	found := false
	for lines := bufio.NewScanner(res.Body); lines.Scan(); {
		line := lines.Text()
		if !strings.HasPrefix(line, name+"{") || !containsAll(line, labels) {
			continue
		}
		value, err := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:], 64)
		if err != nil {
			p.t.Fatal(err)
		}
		sum, found = sum+value, true
	}
	if !found {
		p.t.Errorf("/metrics has no %s with %v", name, labels)
	}
	return sum
}

func containsAll(line string, parts []string) bool {
	for _, p := range parts {
		if !strings.Contains(line, p) {
			return false
		}
	}
	return true
}

// checkSpans checks that the log had a span for each of at least n attempts that failed.
func (p *process) checkSpans(n int64) {
	p.t.Helper()
	if int64(p.spans) < n {
		p.t.Errorf("%d spans of attempts, want at least %d", p.spans, n)
	}
}
