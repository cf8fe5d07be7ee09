"""What is appended to the commands of documents, so that a test of them is short."""

ON_THE_HUB = "openai-community/gpt2"
LEARNING = "--max_steps 2 --warmup_steps 0 --evaluation_steps 0 --checkpoint_steps 0"
# What makes a command short; of an option that stands there twice the last one counts.
SHORT = {
    "finetune/sft.py": f"{LEARNING} --evaluation_conversations 4 --evaluation_replies 2 --reply_tokens 4 --lora_rank 4 "
    "--conversations_per_step 4",
    "finetune/dpo.py": f"{LEARNING} --evaluation_pairs 4 --evaluation_replies 2 --reply_tokens 4 --lora_rank 4 "
    "--pairs_per_step 4",
    "finetune/new_rows.py": f"{LEARNING} --block_size 32 --evaluation_blocks 4",
    "finetune/pretrain.py": f"{LEARNING} --block_size 32 --evaluation_blocks 4 --sample_tokens 4 --lora_rank 4",
    "finetune/gist.py": f"{LEARNING} --questions 4 --evaluation_questions 2 --reply_tokens 4",
    "finetune/red_team.py": "--prompts 1 --reply_tokens 4",
    "finetune/compare.py": "--conversations 4 --reply_tokens 4",
    "tokenizer_ext/extend.py": "--new_tokens 20",
    "scratch_models/train.py": f"{LEARNING} --data field.txt --evaluation_blocks 4 --sample_characters 20",
    "scratch_models/sample.py": "--max_new_tokens 5",
}
