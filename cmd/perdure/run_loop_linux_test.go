package main

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/seed-0f2c7998/perdure/internal/testseed"
)

// inBash returns a bash that runs the script, in which perdure is the command. What $P begins is
// run by it, with those flags, or by itself.
func inBash(t *testing.T, script string, perdure bool) *exec.Cmd {
	t.Helper()
	c := command(t, []string{noRaceDelay, "PERDURE_BASE_DELAY=0.001", "PERDURE_JITTER=0", "P="})
	if perdure {
		c.Env = append(c.Env, "P=perdure run --")
	}
	c.Env = append(c.Env, "PATH="+filepath.Dir(c.Path)+":"+os.Getenv("PATH"))
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip(err)
	}
	c.Path, c.Args, c.Dir = bash, []string{"bash", "-c", script}, t.TempDir()
	return c
}

// A command takes from a pipe what it takes without us, and its next reader gets the rest: byte
// for byte. All of it used to be taken, or as much as had come: a loop ended after its first item,
// or had lines left out and cut in two.
func TestLoopsKeepTheirInput(t *testing.T) {
	for _, script := range []string{
		`while read x; do $P echo "got $x"; done < <(printf 'a\nb\nc\n')`,
		`printf 'a\nb\nc\n' | while read x; do $P cat; echo "loop $x"; done`,
		`seq 1 20000 | while read x; do case $x in *000) $P true;; esac; echo $x; done | cksum`,
		`seq 1 20000 | while read x; do case $x in *000) $P bash -c 'read y; read z; echo "$y $z"';; esac; echo $x; done | cksum`,
		`seq 1 2000 >f; cat f | while read x; do $P head -n1; echo "loop $x"; done`,
		`seq 1 2000 >f; cat f | { $P head -n1; cat; } | cksum`,
		`seq 1 50000 | { $P cat; $P cat; cat; } | cksum`,
		`seq 1 50000 | { $P head -c 7; $P head -c 70000; $P head -c 65536; $P head -c 0; $P true; cat; } | cksum`,
		`seq 1 50000 | { $P bash -c 'read x; exec <&-; echo $x'; cat; } | cksum`,
		`seq 1 50000 | { $P bash -c 'exec <&-; echo x'; cat; } | cksum`,
		`seq 1 50000 | { $P sh -c 'head -c 100; head -c 1000 | tail -c 10; exit 0'; cat; } | cksum`,
		`seq 1 9 | { $P bash -c '{ read y; echo "$y"; } <&0 & wait; read x; echo "$x"'; cat; }`,
		`seq 1 9 | { $P bash -c 'sleep 60 >/dev/null 2>&1 <&0 & echo $! >pid; read x; echo "$x"'; cat; kill $(cat pid); }`, // who continues has our input open
		`seq 1 9 | { $P bash -c 'read x; kill -9 $$'; cat; }`,
		`seq 1 9 | { $P bash -c 'read x; perdure run -- bash -c "read y; echo \$y"'; cat; }`,
		`true | { $P cat; $P cat; }`,
		`yes | $P head -n 3`, // and is not ended by what no process reads
		`seq 1 9 | { head -c 1 >/dev/null; $P bash -c 'head -c 1; grep flags /proc/$PPID/fdinfo/0'; cat; grep flags /proc/self/fdinfo/0; }`,
		`mkfifo p; seq 1 9 >p & { $P bash -c 'read x; echo "$x"'; cat; } <p`,
		// What is no pipe is at the place where the command has left it.
		`seq 1 9 >f; { read x; $P bash -c 'read y; echo "$y"'; cat; } <f`,
		`seq 1 9 >f; { $P head -n 2; $P cat; } <f`,
		`$P cat <<<"here"`,
		`$P cat </dev/null`,
	} {
		plain, err := inBash(t, script, false).Output()
		if err != nil && !strings.Contains(script, "kill") {
			t.Fatalf("%s: %v", script, err)
		}
		c := inBash(t, strings.ReplaceAll(script, "run -- bash -c 'read x; kill", "run --max-attempts 2 -- bash -c 'read x; kill"), true)
		var said bytes.Buffer
		c.Stderr = &said
		if got, _ := c.Output(); !bytes.Equal(got, plain) {
			t.Errorf("%s\ngives %q\nwant  %q, as without perdure\n%s", script, got, plain, &said)
		}
	}
}

// Another attempt gets again what those before it have read, and then what they have not.
func TestAttemptsAfterAPartOfAPipe(t *testing.T) {
	for _, row := range []struct{ script, want string }{
		{`seq 5 | { perdure run -- bash -c 'read x; echo $x; test $PERDURE_ATTEMPT = 2 || exit 1; read y; echo $y'; cat; }`, "1 1 2 3 4 5"},
		{`seq 5 | { perdure run -- bash -c 'read x; read y; echo $y; test $PERDURE_ATTEMPT = 3'; cat; }`, "2 2 2 3 4 5"},
		{`seq 5 | { perdure run -- bash -c 'test $PERDURE_ATTEMPT = 2 || exit 1; cat'; cat; }`, "1 2 3 4 5"},
		{`seq 5 | { perdure run -- bash -c 'test $PERDURE_ATTEMPT = 2 && exit; read x; exit 1'; cat; }`, "2 3 4 5"},
		{`seq 5 | { perdure run --attempt-timeout 0.3 --max-attempts unlimited -- bash -c 'read x; test -e first && { echo $(<first) $x >both; exit; }; echo $x >part; mv part first; sleep 60'; cat both -; }`, "1 1 2 3 4 5"},
		{`seq 5 | { perdure run --max-attempts 1 -- bash -c 'read x; echo $x; exit 1'; cat; }`, "1 2 3 4 5"},
		{`seq 5 | { perdure run -- bash -c 'read x; echo $x; kill -TERM $PPID; sleep 60'; cat; }`, "1 2 3 4 5"},
		{`seq 1 500000 | perdure run -- bash -c 'head -c 3000000 | tail -c 3; test $PERDURE_ATTEMPT = 2'`, "444444"},
		{`seq 5 | { perdure run --replay-stdin -- bash -c 'read x; echo $x; test $PERDURE_ATTEMPT = 2 || exit 1'; }`, "1 1"},
		{`{ perdure run -- bash -c 'read x; echo $x; test $PERDURE_ATTEMPT = 2'; cat; } <<<$'1\n2'`, "1 1 2"},
		// Who writes may wait for what has been read, though not all of it was.
		{`mkfifo p; { head -c 65536 /dev/zero; head -c 8192 /dev/zero; : >p; } | perdure run -- bash -c 'head -c 8192 >/dev/null; read <p; echo done'`, "done"},
	} {
		c := inBash(t, row.script, true)
		var said bytes.Buffer
		c.Stderr = &said
		if got, _ := c.Output(); strings.Join(strings.Fields(string(got)), " ") != row.want {
			t.Errorf("%s\ngives %.1000q\nwant  %q\n%s", row.script, got, row.want, &said)
		}
	}
}

// Whatever commands read, and however the input comes, each gets what follows on what those before it have
// read in all their attempts.
func TestReadersOfAPipeInTurn(t *testing.T) {
	first := testseed.Of(t, 0)
	for seed := first; seed < first+10; seed++ {
		random := rand.New(rand.NewPCG(seed, 0))
		data := make([]byte, random.IntN(400_000))
		for i := range data {
			data[i] = "0123456789abcdef\n"[random.IntN(17)]
		}
		var script, want strings.Builder
		at := 0
		size := func() int { return random.IntN(1 << (1 + random.IntN(17))) }
		for range 1 + random.IntN(8) {
			before, n := size(), size() // of an attempt that fails, and of the next
			fmt.Fprintf(&script, "perdure run -- sh -c 'test $PERDURE_ATTEMPT = 2 || { head -c %d >/dev/null; exit 1; }; head -c %d'\n", before, n)
			want.Write(data[at:min(at+n, len(data))])
			at = min(at+max(before, n), len(data))
		}
		script.WriteString("cat")
		want.Write(data[at:])
		c := inBash(t, script.String(), true)
		in, err := c.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			for rest := data; len(rest) > 0; {
				n := min(1+size(), len(rest))
				if _, err := in.Write(rest[:n]); err != nil {
					t.Error(err)
					break
				}
				rest = rest[n:]
			}
			_ = in.Close()
		}()
		if got, err := c.Output(); err != nil || string(got) != want.String() {
			t.Errorf("seed %d: %d bytes, %v, want %d, after\n%s", seed, len(got), err, want.Len(), &script)
		}
	}
}

// What can't be given again is handed on, and the second attempt says so.
func TestInputThatIsNotReplayed(t *testing.T) {
	const line = "INFO: Standard input is a socket and is not replayed: attempt 2 continues where attempt 1 stopped reading\n"
	for flag, want := range map[string]string{"--buffer=false": "abcdef", "--replay-stdin": "ababab"} {
		ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		ours, theirs := os.NewFile(uintptr(ends[0]), "ours"), os.NewFile(uintptr(ends[1]), "theirs")
		if _, err := io.WriteString(ours, "abcdefgh"); err != nil {
			t.Fatal(err)
		}
		c := command(t, []string{noRaceDelay, "PERDURE_BASE_DELAY=0.001"}, "run", flag, "--", "sh", "-c", "head -c 2; test $PERDURE_ATTEMPT = 3")
		var said bytes.Buffer
		c.Stdin, c.Stderr = theirs, &said
		got, err := c.Output()
		if err != nil || string(got) != want {
			t.Errorf("%s: it got %q (%v), want %q", flag, got, err, want)
		}
		if n := strings.Count(said.String(), line); n != 1 != (flag == "--replay-stdin") {
			t.Errorf("%s: %d lines of it in\n%s", flag, n, &said)
		}
		_, _ = ours.Close(), theirs.Close()
	}
	term := onTerminal(t, command(t, nil).Path, "run", "--base-delay", "0.001", "--", "sh", "-c", "test $PERDURE_ATTEMPT = 3")
	if code := term.code(); code != 0 || strings.Count(term.text(), "Standard input is a terminal and is not replayed") != 1 {
		t.Errorf("exit code %d, on the terminal\n%s", code, term.text())
	}
}

// The flags of a pipe are those of all who share it: a reader that finds it not to block would take an error for the end.
func TestFlagsOfAPipeStay(t *testing.T) {
	for _, nonblock := range []bool{false, true} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.SetNonblock(int(r.Fd()), nonblock); err != nil {
			t.Fatal(err)
		}
		before, err := unix.FcntlInt(r.Fd(), unix.F_GETFL, 0)
		if err != nil {
			t.Fatal(err)
		}
		// The command has read one byte when it looks.
		c := command(t, []string{noRaceDelay}, "run", "--", "sh", "-c", "head -c 1 >/dev/null; grep flags /proc/$PPID/fdinfo/0; cat")
		c.Stdin = r
		if _, err := w.WriteString("ab"); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		got, err := c.Output()
		want := fmt.Sprintf("flags:\t0%o\nb", before)
		if err != nil || string(got) != want {
			t.Errorf("it was %q (%v), want %q", got, err, want)
		}
		if after, err := unix.FcntlInt(r.Fd(), unix.F_GETFL, 0); err != nil || after != before {
			t.Errorf("the flags are %#o (%v), want %#o", after, err, before)
		}
		_ = r.Close()
	}
}

// Two commands that read the same pipe at the same time get all of it, each byte once, and neither waits for what the
// other has taken.
func TestTwoReadersOfAPipe(t *testing.T) {
	c := inBash(t, `{ perdure run -- cat <&0 >1 & perdure run -- cat <&0 >2 & perdure run -- dd bs=1000 of=3 <&0 & wait; }; cat 1 2 3`, true)
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	const chunk, chunks = 4096, 1000 // which one write adds, and one reading takes or leaves
	go func() {
		for i := range chunks {
			if _, err := fmt.Fprintf(in, "%0*d\n", chunk-1, i); err != nil {
				break
			}
		}
		_ = in.Close()
	}()
	var said bytes.Buffer
	c.Stderr = &said
	got, err := c.Output()
	if err != nil || len(got) != chunk*chunks {
		t.Errorf("%d bytes (%v), want %d\n%s", len(got), err, chunk*chunks, &said)
	}
	if digits := len(got) - bytes.Count(got, []byte("0")); digits != len(all(chunks)) {
		t.Errorf("%d characters that are no 0, want %d: some came twice, and others never", digits, len(all(chunks)))
	}
}

// all returns what is no 0 in the numbers below n, in lines.
func all(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintln(&b, strings.ReplaceAll(fmt.Sprint(i), "0", ""))
	}
	return b.String()
}
