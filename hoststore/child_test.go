//go:build unix

package hoststore_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/hoststore"
	"github.com/seed-0f2c7998/perdure/internal/breakers"
	"github.com/seed-0f2c7998/perdure/internal/cell"
)

// The test binary is also the other process: if this variable is set, it plays the role of
// that name on the file in its first argument.
const roleVariable = "PERDURE_TEST_ROLE"

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		roles()[role](os.Args[1])
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func roles() map[string]func(path string) {
	return map[string]func(string){
		"add":    add,
		"churn":  churn,
		"fail":   fail,
		"hoard":  hoard,
		"lease":  lease,
		"report": report,
	}
}

// start starts another process in that role.
func start(t *testing.T, role, path string) (*exec.Cmd, *bufio.Reader) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], path)
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd, bufio.NewReader(out)
}

const adds = 500_000

// add counts in one word as fast as it can.
func add(path string) {
	c := cell.Unseal(hoststore.Open(path)).Cell("total", cell.Client{}).Load()
	for range adds {
		c.Rejected.Add(1)
	}
}

// churn changes cells in all possible ways, until it is killed.
func churn(path string) {
	fmt.Fprintln(os.Stdout, "ready")
	for i := 0; ; i++ {
		store := hoststore.Open(path)
		for _, key := range []string{"shared", "own " + strconv.Itoa(os.Getpid())} {
			b := circuit.New(key, circuit.Config{
				Store: store, RecoveryTimeout: 2 * time.Millisecond, ProbeLease: 50 * time.Millisecond,
				Window: 10 * time.Second, FailureRatio: 1, Budget: 10, Observe: func(context.Context, circuit.Transition) {},
			})
			for j := range 50 {
				p, _ := b.Acquire() // does nothing if refused
				switch (i + j) % 4 {
				case 0:
					p.Success()
				case 1:
					p.Throttled(time.Millisecond)
				case 2:
					p.Conflict()
				default:
					p.Failure()
				}
			}
		}
		store.Close()
	}
}

// fail records one failure, and prints how many the breaker has then.
func fail(dir string) {
	b := circuit.New("counted", circuit.Config{Store: hoststore.Open(dir), FailureThreshold: 100})
	b.RecordFailure()
	fmt.Fprintln(os.Stdout, b.Metrics().Failures)
}

// lease takes the only probe of each open breaker, prints whether it has all, and hangs.
func lease(path string) {
	all := true
	for _, b := range leased(hoststore.Open(path)) {
		p, err := b.Acquire()
		all = all && err == nil && p.Probe()
	}
	fmt.Fprintln(os.Stdout, all)
	_, _ = io.Copy(io.Discard, os.Stdin)
	select {}
}

// leased returns a breaker whose lease outlasts the test, and one whose lease ends soon.
func leased(store circuit.Store) (all [2]*circuit.Breaker) {
	for i, lease := range []time.Duration{time.Hour, 300 * time.Millisecond} {
		all[i] = circuit.New("leased for "+lease.String(), circuit.Config{
			Store: store, FailureThreshold: 1, RecoveryTimeout: time.Millisecond,
			ProbeLease: lease, Observe: func(context.Context, circuit.Transition) {},
		})
	}
	return all
}

// hoard limits a gate, takes all credits that its successes have given, prints a line, and hangs.
func hoard(path string) {
	b := gated(hoststore.Open(path))
	permits := make([]circuit.Permit, 20)
	for i := range permits {
		permits[i], _ = b.Acquire() // in health each is admitted
	}
	for i, p := range permits {
		if i < 10 {
			p.Failure()
		} else {
			p.Success() // gives a credit: it was sent before the limit
		}
	}
	taken := 0
	for taken < 10 {
		if _, err := b.Acquire(); err == nil {
			taken++
		}
	}
	fmt.Fprintln(os.Stdout, b.State() != circuit.Closed)
	_, _ = io.Copy(io.Discard, os.Stdin)
	select {}
}

func gated(store circuit.Store) *circuit.Breaker {
	return circuit.New("gated", circuit.Config{Store: store, Gate: circuit.Wait, Observe: func(context.Context, circuit.Transition) {}})
}

// report prints the instant of each change of the breaker that it sees.
func report(path string) {
	b := circuit.New("seen", circuit.Config{Store: hoststore.Open(path), Observe: func(context.Context, circuit.Transition) {}})
	fmt.Fprintln(os.Stdout, "ready")
	for was := circuit.Closed; ; {
		is := circuit.Closed
		if breakers.Peek(b) != nil {
			is = circuit.Isolated
		}
		if is != was {
			was = is
			fmt.Fprintln(os.Stdout, time.Now().UnixNano())
		}
	}
}
