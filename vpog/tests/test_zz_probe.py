import time
def test_a(data):
    import os
    for p in sorted(data.rglob("*")):
        if "templates" not in str(p): print(p.relative_to(data))
def test_b(run): 
    print(sorted(p.name for p in run.iterdir())); print((run/"metrics.jsonl").read_text()[:3000])
