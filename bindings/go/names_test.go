package finermoe

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// sources parses the package's own files, without tests.
func sources(t *testing.T) (files []*ast.File, text string) {
	t.Helper()
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, content, 0)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
		all.Write(content)
	}
	return files, all.String()
}

// declared is the exported names of the package: functions, types, constants, "Type.Method" and "Type.Field".
func declared(files []*ast.File) map[string]bool {
	names := map[string]bool{}
	for _, file := range files {
		for _, declaration := range file.Decls {
			switch d := declaration.(type) {
			case *ast.FuncDecl:
				names[receiver(d)+d.Name.Name] = true
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					declaredBy(spec, names)
				}
			}
		}
	}
	return names
}

func receiver(function *ast.FuncDecl) string {
	if function.Recv == nil {
		return ""
	}
	of := function.Recv.List[0].Type
	if pointer, ok := of.(*ast.StarExpr); ok {
		of = pointer.X
	}
	if named, ok := of.(*ast.Ident); ok {
		return named.Name + "."
	}
	return "."
}

func declaredBy(spec ast.Spec, names map[string]bool) {
	switch s := spec.(type) {
	case *ast.ValueSpec:
		for _, name := range s.Names {
			names[name.Name] = true
		}
	case *ast.TypeSpec:
		names[s.Name.Name] = true
		if structure, ok := s.Type.(*ast.StructType); ok {
			for _, field := range structure.Fields.List {
				for _, name := range field.Names {
					names[s.Name.Name+"."+name.Name] = true
				}
			}
		}
	}
}

// names.json names every function of the header, with names that the package has.
func TestNames(t *testing.T) {
	content, err := os.ReadFile("names.json")
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]string{}
	if err := json.Unmarshal(content, &names); err != nil {
		t.Fatal(err)
	}
	files, _ := sources(t)
	known := declared(files)
	known["context.Context"] = true // which does what a cancel object does
	for function, name := range names {
		if !known[name] {
			t.Errorf("%s is called %s, which is not declared", function, name)
		}
	}
	header, err := os.ReadFile("../../include/finermoe.h")
	if err != nil {
		t.Skip("the header is not beside the module: ", err)
	}
	functions := regexp.MustCompile(`(?m)^FINERMOE_API [^;(]*?(finermoe_\w+)\(`).FindAllStringSubmatch(string(header), -1)
	if len(functions) != len(names) {
		t.Errorf("%d functions in the header, %d names", len(functions), len(names))
	}
	for _, function := range functions {
		if names[function[1]] == "" {
			t.Errorf("%s has no name", function[1])
		}
	}
}

// Every function and every field of the low layer is used.
func TestLowLayerIsUsed(t *testing.T) {
	generated, err := os.ReadFile("internal/low/finermoe.go")
	if err != nil {
		t.Fatal(err)
	}
	_, text := sources(t)
	functions := regexp.MustCompile(`(?m)^func ([A-Z]\w*)\(`).FindAllStringSubmatch(string(generated), -1)
	getters := regexp.MustCompile(`(?m)^func \(arg1 \w+\) (Get\w+)\(`).FindAllStringSubmatch(string(generated), -1)
	if len(functions) < 150 || len(getters) < 100 {
		t.Fatalf("%d functions and %d fields were found in the low layer", len(functions), len(getters))
	}
	for _, function := range functions {
		used := regexp.MustCompile(`\blow\.` + function[1] + `\b`)
		if !strings.HasPrefix(function[1], "Swig_") && !used.MatchString(text) {
			t.Errorf("low.%s is not used", function[1])
		}
	}
	for _, getter := range getters {
		if !strings.Contains(text, "."+getter[1]+"(") {
			t.Errorf("%s of the low layer is not used", getter[1])
		}
	}
}
