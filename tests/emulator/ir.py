"""The LLVM code that numba-cuda makes for a GPU, as code for the processor that runs the tests."""

import re

SHARED = 1 << 17         # bytes of a block's shared memory
REGISTERS = {"tid.x": "thread", "tid.y": "zero", "tid.z": "zero", "ctaid.x": "block_x", "ctaid.y": "block_y",
             "ctaid.z": "zero", "nctaid.x": "blocks_x", "nctaid.y": "blocks_y",
             "ntid.x": "block_size", "ntid.y": "one", "ntid.z": "one"}
_SHARED_SIZE = re.compile(r'call i32 asm sideeffect "mov.u32 \$0, %dynamic_smem_size;", "=r"\(?\)?\s*\(?\)?')
_OPEN = {")": "(", "}": "{", "]": "["}


def for_this_machine(text):
    """Rewrite one module; returns its text and the names of its shared arrays."""
    text = text.replace(" addrspace(3)", "").replace("addrspacecast", "bitcast")
    for line in (r"^target .*$", r"^!nvvm.*$", r'^@"?llvm\.used.*$'):
        text = re.sub(line, "", text, flags=re.M)
    text = re.sub(r"^(![0-9]+) = !\{[^\n]*void \([^\n]*$", r"\1 = !{}", text, flags=re.M)
    text = "\n".join(_opaque(line) if "*" in line else line for line in text.splitlines())
    text = _SHARED_SIZE.sub("call i32 @emulated_shared_size()", text)
    text = text.replace('@"llvm.nvvm.barrier0"', "@emulated_barrier")
    for register, name in REGISTERS.items():
        text = text.replace(f'@"llvm.nvvm.read.ptx.sreg.{register}"', f"@emulated_{name}")
    text = re.sub(r"^declare i32 @emulated_\w+\(\)[^\n]*$", "", text, flags=re.M)
    text += "".join(f"\ndeclare i32 @{name}()\n" for name in
                    sorted(set(re.findall(r"@(emulated_\w+)\(\)", text)) - {"emulated_barrier"}))
    shared = re.findall(r'^@"(_cudapy_smem[^"]*)" = ', text, flags=re.M)
    text = re.sub(r'^@"(_cudapy_smem[^"]*)" = [^\n]*$', rf'@"\1" = global [{SHARED} x i8] zeroinitializer, align 16',
                  text, flags=re.M)
    return text, shared


def with_entry(text):
    """Add a function that calls the kernel with arguments from an array of 64-bit words; returns the types, too."""
    name, parameters = re.search(r'^define void @"([^"]+)"\(([^\n]*)\)[^\n]*$', text, flags=re.M).groups()
    types = [parameter.strip().split(" ")[0] for parameter in parameters.split(",")]
    loads = "".join(f"  %p{i} = getelementptr i64, ptr %all, i64 {i}\n  %v{i} = load {kind}, ptr %p{i}\n"
                    for i, kind in enumerate(types))
    given = ", ".join(f"{kind} %v{i}" for i, kind in enumerate(types))
    return f'{text}\ndefine void @entry(ptr %all) {{\n{loads}  call void @"{name}"({given})\n  ret void\n}}\n', types


def _opaque(line):
    """Typed pointers of a line ("float*", "{ i8*, i64 }*", "void (i32)*") as "ptr"."""
    if line.lstrip().startswith(";"):
        return line
    at = 0
    while (star := line.find("*", at)) >= 0:
        start = _start_of_type(line, star)
        line = line[:start] + "ptr" + line[star + 1:]
        at = start
    return line


def _start_of_type(line, star):
    """Where the type begins that a star ends."""
    end = len(line[:star].rstrip(" "))
    last = line[end - 1]
    if last not in _OPEN:
        return re.search(r"[\w.]+$", line[:end]).start()
    depth, start = 1, end - 1
    while depth:
        start -= 1
        depth += (line[start] == last) - (line[start] == _OPEN[last])
    if last == ")":                      # a function's: its result stands before
        start = re.search(r"([\w.]+|ptr|\{[^{}]*\})\s*$", line[:start]).start()
    return start
