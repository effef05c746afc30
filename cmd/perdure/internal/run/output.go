package run

import (
	"errors"
	"fmt"
	"os"
	"os/exec"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/tail"
	"github.com/seed-0f2c7998/perdure/retry"
)

// Outputs say which failures to retry by the last lines that an attempt has written. Stop
// has precedence.
type Outputs struct{ Retry, Stop tail.Patterns }

// A Match says which patterns an output matches.
type Match uint8

// The values of Match.
const (
	None  Match = iota
	Retry       // a pattern of Outputs.Retry, and none of Outputs.Stop
	Stop        // a pattern of Outputs.Stop
)

// An attemptOutput is the output of one attempt. A nil *attemptOutput is one that the
// attempt has inherited.
type attemptOutput struct {
	*tail.Output

	patterns *Outputs
}

// open replaces the files of cmd, if there are patterns.
func (o *Outputs) open(cmd *exec.Cmd) (*attemptOutput, error) {
	stdout, isFile := cmd.Stdout.(*os.File)
	stderr, both := cmd.Stderr.(*os.File)
	if o == nil || !isFile || !both || !o.Retry.Any() && !o.Stop.Any() {
		return nil, nil //nolint:nilnil // inherited
	}
	out, err := tail.Open(stdout, stderr)
	if err != nil {
		return nil, err
	}
	cmd.Stdout, cmd.Stderr = out.Stdout, out.Stderr
	return &attemptOutput{out, o}, nil
}

// started is called when the process has started, or could not be started.
func (o *attemptOutput) started() {
	if o != nil {
		o.Started()
	}
}

// matched returns the error of the attempt, with what its output matches.
func (o *attemptOutput) matched(err error) error {
	if o == nil {
		return err
	}
	lines := o.Lines() // also of a success: all that it has written is passed on before this process ends
	if f, ok := errors.AsType[*Failure](err); ok {
		switch {
		case o.patterns.Stop.Match(lines):
			f.Output = Stop
		case o.patterns.Retry.Match(lines):
			f.Output = Retry
		}
	}
	if lost := o.Err(); err == nil && lost != nil {
		err = retry.Permanent(fmt.Errorf("passing on the output: %w", lost))
	}
	return err
}
