package run

import (
	"context"
	"os"
	"os/exec"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/exit"
)

// A child is an attempt that runs: a process in its own job, with all processes that it
// starts.
type child struct {
	cmd *exec.Cmd
	job windows.Handle // 0 if the process is in no job
}

// passedOn returns the signals that are forwarded and do not end this process.
func passedOn() []os.Signal { return nil }

func notifyOfOrphans(chan<- os.Signal) {}

func reap() {}

func isSuspend(os.Signal) bool { return false }

func (c *Command) suspend() {}

func start(cmd *exec.Cmd) (*child, error) {
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &child{cmd: cmd, job: newJob(cmd.Process.Pid)}, nil
}

// newJob returns a job with the process. The job ends with its last handle, so the
// process does not outlive this one. newJob returns 0 if there is an error.
func newJob(pid int) windows.Handle {
	job, err := windows.CreateJobObject(nil, nil)
	if err != nil {
		return 0
	}
	var info windows.JOBOBJECT_EXTENDED_LIMIT_INFORMATION
	info.BasicLimitInformation.LimitFlags = windows.JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE
	_, err = windows.SetInformationJobObject(job, windows.JobObjectExtendedLimitInformation,
		uintptr(unsafe.Pointer(&info)), uint32(unsafe.Sizeof(info)))
	if err == nil {
		err = assign(job, pid)
	}
	if err != nil {
		_ = windows.CloseHandle(job)
		return 0
	}
	return job
}

func assign(job windows.Handle, pid int) error {
	process, err := windows.OpenProcess(windows.PROCESS_SET_QUOTA|windows.PROCESS_TERMINATE, false, uint32(pid))
	if err != nil {
		return err
	}
	defer func() { _ = windows.CloseHandle(process) }()
	return windows.AssignProcessToJobObject(job, process)
}

// signal kills the job, except for ^C, which the console sends to the process as well.
func (c *child) signal(s os.Signal) {
	if s != os.Interrupt {
		c.kill()
	}
}

func (c *child) kill() {
	if c.job != 0 {
		_ = windows.TerminateJobObject(c.job, uint32(exit.Signal+int(syscall.SIGKILL)))
		return
	}
	_ = c.cmd.Process.Kill()
}

// wait waits for the process. It returns nil if the process succeeded. It is called once.
func (c *child) wait() *Failure {
	err := c.cmd.Wait()
	if c.job != 0 {
		defer func() { _ = windows.CloseHandle(c.job) }()
	}
	if err == nil {
		return nil
	}
	return &Failure{Code: c.cmd.ProcessState.ExitCode()}
}

// end kills the job: Windows has no SIGTERM.
func (c *child) end(done <-chan *Failure, _ time.Duration) *Failure {
	c.kill()
	return <-done
}

// sweep does nothing: all processes of the job end with its handle.
func (c *child) sweep(<-chan time.Time) {}

// clear does nothing, as sweep.
func (c *child) clear(<-chan time.Time) {}

func startApart(cmd *exec.Cmd) (*child, error) { return start(cmd) }

func (c *child) waitApart() *Failure { return c.wait() }

// shell is the shell of hooks.
const shell = "cmd"

// shellCommand returns the command that has the shell run line.
func shellCommand(ctx context.Context, line string) *exec.Cmd {
	c := exec.CommandContext(ctx, shell)
	c.SysProcAttr = &syscall.SysProcAttr{CmdLine: shell + ` /d /s /c "` + line + `"`} // which no other quoting survives
	return c
}
