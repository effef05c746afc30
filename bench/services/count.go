// Command services counts the resilience code of the five programs in examples/services, and of the same programs with
// failsafe-go in this directory: the lines and the words of Go between the comments "resilience: begin" and
// "resilience: end". Comments and empty lines do not count; what turns telemetry on does, which failsafe-go lacks.
package main

import (
	"fmt"
	"go/scanner"
	"go/token"
	"io"
	"log"
	"os"
	"path/filepath"
)

func main() {
	if err := write(os.Stdout, ".."); err != nil {
		log.Fatal(err)
	}
}

// programs are those that are compared, with what they do.
func programs() [][2]string {
	return [][2]string{
		{"http", "HTTP client"},
		{"grpc", "gRPC client"},
		{"pgx", "transaction of pgx"},
		{"aws", "S3"},
		{"workers", "1,000 workers with fallback, hedge and limits"},
	}
}

// write writes the table of the tree at root.
func write(w io.Writer, root string) error {
	if _, err := fmt.Fprint(w, "| program | lines | failsafe-go | tokens | failsafe-go |\n|---|---|---|---|---|\n"); err != nil {
		return err
	}
	for _, p := range programs() {
		ours, theirs, err := both(root, p[0])
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(w, "| %s | %d | %d | %d | %d |\n", p[1], ours.lines, theirs.lines, ours.tokens, theirs.tokens)
		if err != nil {
			return err
		}
	}
	return nil
}

func both(root, program string) (ours, theirs size, err error) {
	ours, err = measure(filepath.Join(root, "examples", "services", program, "main.go"))
	if err == nil {
		theirs, err = measure(filepath.Join(root, "bench", "services", program, "main.go"))
	}
	return ours, theirs, err
}

type size struct{ lines, tokens int }

// measure counts the code between the markers of a file.
func measure(file string) (n size, err error) {
	source, err := os.ReadFile(file)
	if err != nil {
		return n, err
	}
	files := token.NewFileSet()
	f := files.AddFile(file, -1, len(source))
	var s scanner.Scanner
	s.Init(f, source, nil, scanner.ScanComments)
	inside, last := false, 0
	for {
		pos, t, text := s.Scan()
		switch line := f.Line(pos); {
		case t == token.EOF && (inside || n.lines == 0):
			return n, fmt.Errorf("%s has no pair of markers", file)
		case t == token.EOF:
			return n, nil
		case text == "// resilience: begin":
			inside = true
		case text == "// resilience: end":
			inside = false
		case !inside || t == token.COMMENT || t == token.SEMICOLON && text == "\n":
		default:
			n.tokens++
			if line != last {
				n.lines, last = n.lines+1, line
			}
		}
	}
}
