package run

import (
	"os"
	"os/exec"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/exit"
)

// A child is an attempt that runs: a process in a job of its own, which holds
// all that it starts.
type child struct {
	cmd *exec.Cmd
	job windows.Handle // 0: there is none, the process is alone
}

// passedOn are the signals that are forwarded and mean nothing to us.
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

// newJob returns a job that holds the process, and ends it with the last
// handle: so it does not outlive us.
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

// signal does nothing for ^C, which the console gives to the process as well.
// Every other signal ends it.
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

// wait waits for the process, and says how it ended; nil is well. It is called
// once.
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

// end ends the process and all that it has started. There is no way to ask.
func (c *child) end(done <-chan *Failure, _ time.Duration) *Failure {
	c.kill()
	return <-done
}

// sweep has nothing to do: the job ends with its handle, and all that is in it.
func (c *child) sweep(<-chan time.Time) {}
