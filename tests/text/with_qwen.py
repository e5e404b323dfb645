"""Runs a test with the real Qwen2.5 tokenizer: with_qwen.py FETCH_SCRIPT CACHE_FOLDER TEST PROGRAM"""
import subprocess
import sys

fetch, cache, test, program = sys.argv[1:5]
fetched = subprocess.run(["sh", fetch, cache], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
if fetched.returncode != 0:
    print(fetched.stderr.strip())
    sys.exit(fetched.returncode)
sys.exit(subprocess.run([sys.executable, test, program, fetched.stdout.strip()]).returncode)
